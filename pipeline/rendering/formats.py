"""Every output format by name: text, JSON, tables of words, and the subtitles of `subtitles`."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

from nightscribe.records import Word
from nightscribe.rendering.annotations import (
    channel_of,
    one_token,
    render_eaf,
    render_rttm,
    render_textgrid,
)
from nightscribe.rendering.cues import render_srt, render_vtt
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    SpeakerUtterance,
    one_line,
    paragraphs,
    utterances,
    written_words,
)

Renderer = Callable[[Document, RenderingConfig], str]
TIME_DECIMALS = 3
CONFIDENCE_DECIMALS = 4


def render_text(document: Document, config: RenderingConfig) -> str:
    """Paragraphs separated by empty lines; each names its speaker if there are several."""
    texts = []
    for paragraph in paragraphs(utterances(document, config), config):
        speaker = f"{one_line(paragraph[0].speaker)}: " if document.names_speakers else ""
        texts.append(speaker + " ".join(utterance.text for utterance in paragraph) + "\n")
    return "\n".join(texts)


def render_json(document: Document, config: RenderingConfig) -> str:
    """Utterances with their words, times and confidences, as in every JSON of Nightscribe."""
    parts = utterances(document, config)
    content = {
        "name": document.name,
        "speakers": [speaker.name for speaker in document.speakers],
        "text": " ".join(utterance.text for utterance in parts),
        "utterances": [_utterance(utterance) for utterance in parts],
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def render_words(document: Document, config: RenderingConfig) -> str:
    """Start, end, confidence and word in aligned columns."""
    rows = [
        f"{word.start_s:10.3f} {word.end_s:10.3f}  {word.confidence:4.2f}  "
        + (f"{one_line(speaker)}: " if document.names_speakers else "")
        + one_line(word.text)
        for speaker, word in _rows(document, config)
    ]
    return "".join(f"{row}\n" for row in rows)


def render_tsv(document: Document, config: RenderingConfig) -> str:
    """Tab-separated values with a header, quoted for spreadsheets and csv readers."""
    table = io.StringIO()
    writer = csv.writer(table, dialect="excel-tab", lineterminator="\n")
    writer.writerow(["start_s", "end_s", "speaker", "confidence", "word"])
    for speaker, word in _rows(document, config):
        times = f"{word.start_s:.3f}", f"{word.end_s:.3f}"
        writer.writerow([*times, one_line(speaker), f"{word.confidence:.4f}", one_line(word.text)])
    return table.getvalue()


def render_ctm(document: Document, config: RenderingConfig) -> str:
    """CTM of NIST: recording, channel, start, duration, word, confidence, by channel and time."""
    recording = one_token(document.name) or "recording"
    rows = [
        (channel_of(speaker, place), piece)
        for place, speaker in enumerate(document.speakers, start=1)
        for word in written_words(speaker, config)
        for piece in _split_at_spaces(word)
    ]
    # Several speakers may share a channel.
    rows.sort(key=lambda row: (row[0], row[1].start_s))
    return "".join(
        f"{recording} {channel} {piece.start_s:.3f} {piece.end_s - piece.start_s:.3f} "
        f"{piece.text} {piece.confidence:.4f}\n"
        for channel, piece in rows
    )


FORMATS: dict[str, Renderer] = {
    "text": render_text,
    "words": render_words,
    "json": render_json,
    "srt": render_srt,
    "vtt": render_vtt,
    "ctm": render_ctm,
    "tsv": render_tsv,
    "rttm": render_rttm,
    "textgrid": render_textgrid,
    "eaf": render_eaf,
}
SUBTITLES = ("srt", "vtt")
SUFFIXES = {name: f".{name}" for name in FORMATS} | {
    "text": ".txt",
    "words": ".words.txt",
    "textgrid": ".TextGrid",
}


def render(document: Document, format: str, config: RenderingConfig | None = None) -> str:
    """The document in the named format."""
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; choose from {', '.join(FORMATS)}")
    return FORMATS[format](document, config or RenderingConfig())


def json_word(word: Word) -> dict[str, str | float]:
    """A word with times in milliseconds: binary fractions would print as 0.5600000000000001."""
    speaker = {} if word.speaker is None else {"speaker": word.speaker}
    return {
        "text": word.text,
        "start_s": round(word.start_s, TIME_DECIMALS),
        "end_s": round(word.end_s, TIME_DECIMALS),
        "confidence": round(word.confidence, CONFIDENCE_DECIMALS),
        **speaker,
    }


def _utterance(utterance: SpeakerUtterance) -> dict[str, Any]:
    return {
        "speaker": utterance.speaker,
        "start_s": round(utterance.start_s, TIME_DECIMALS),
        "end_s": round(utterance.end_s, TIME_DECIMALS),
        "text": utterance.text,
        "words": [json_word(word) for word in utterance.words],
    }


def _rows(document: Document, config: RenderingConfig) -> list[tuple[str, Word]]:
    rows = [
        (speaker.name, word)
        for speaker in document.speakers
        for word in written_words(speaker, config)
    ]
    return sorted(rows, key=lambda row: row[1].start_s)


def _split_at_spaces(word: Word) -> Iterator[Word]:
    """CTM separates fields by spaces: the parts of a word with spaces share its time equally."""
    texts = one_line(word.text).split()
    share_s = (word.end_s - word.start_s) / len(texts)
    for index, text in enumerate(texts):
        start_s = word.start_s + index * share_s
        yield Word(text, start_s, start_s + share_s, word.confidence)
