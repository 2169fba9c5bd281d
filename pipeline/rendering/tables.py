"""Formats with one row per word: aligned columns, tab-separated values, NIST's CTM."""

import csv
import io
from collections.abc import Iterator

from nightscribe.records import Word
from nightscribe.rendering.document import Document, RenderingConfig, one_line, written_words


def render_words(document: Document, config: RenderingConfig) -> str:
    """Start, end, confidence and word in columns that line up on a terminal."""
    rows = [
        f"{word.start_s:10.3f} {word.end_s:10.3f}  {word.confidence:4.2f}  "
        + (f"{one_line(speaker)}: " if document.names_speakers else "")
        + one_line(word.text)
        for speaker, word in _rows(document)
    ]
    return "".join(f"{row}\n" for row in rows)


def render_tsv(document: Document, config: RenderingConfig) -> str:
    """Tab-separated, quoted as spreadsheets and csv readers expect, with a header."""
    table = io.StringIO()
    writer = csv.writer(table, dialect="excel-tab", lineterminator="\n")
    writer.writerow(["start_s", "end_s", "speaker", "confidence", "word"])
    for speaker, word in _rows(document):
        times = f"{word.start_s:.3f}", f"{word.end_s:.3f}"
        writer.writerow([*times, one_line(speaker), f"{word.confidence:.4f}", one_line(word.text)])
    return table.getvalue()


def render_ctm(document: Document, config: RenderingConfig) -> str:
    """Recording, channel, start, duration, word, confidence, sorted as scoring tools demand."""
    # Two semicolons would make the row a comment.
    recording = "_".join(one_line(document.name).split()).lstrip(";") or "recording"
    rows = [
        (channel, piece)
        for channel, speaker in enumerate(document.speakers, start=1)
        for word in written_words(speaker)
        for piece in _without_spaces(word)
    ]
    return "".join(
        f"{recording} {channel} {piece.start_s:.3f} {piece.end_s - piece.start_s:.3f} "
        f"{piece.text} {piece.confidence:.4f}\n"
        for channel, piece in rows
    )


def _rows(document: Document) -> list[tuple[str, Word]]:
    rows = [
        (speaker.name, word) for speaker in document.speakers for word in written_words(speaker)
    ]
    return sorted(rows, key=lambda row: row[1].start_s)


def _without_spaces(word: Word) -> Iterator[Word]:
    """CTM separates by spaces: words that were heard as one share its time equally."""
    texts = one_line(word.text).split()
    share_s = (word.end_s - word.start_s) / len(texts)
    for index, text in enumerate(texts):
        start_s = word.start_s + index * share_s
        yield Word(text, start_s, start_s + share_s, word.confidence)
