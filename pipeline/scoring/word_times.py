"""How far the times of heard words lie from those of the reference."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jiwer

from nightscribe.records import Word
from nightscribe.scoring.normalization import normaliser


@dataclass(frozen=True, slots=True)
class TimeErrors:
    """Absolute errors of words heard right; `median_shift_s` keeps the sign (positive is late)."""

    num_words: int
    median_s: float
    p90_s: float
    median_shift_s: float


def start_shifts_s(reference: Sequence[Word], heard: Sequence[Word]) -> list[float]:
    """Heard start minus reference start, of each word that was heard right."""
    pairs = _words_heard_right(reference, heard)
    return [said_later.start_s - said.start_s for said, said_later in pairs]


def time_errors(shifts_s: Sequence[float]) -> TimeErrors | None:
    """The median and 90th percentile of the shifts; None where there are none."""
    if not shifts_s:
        return None
    sizes_s = sorted(abs(shift_s) for shift_s in shifts_s)
    # The smallest error that at least nine words in ten do not exceed.
    p90_s = sizes_s[-(-len(sizes_s) * 9 // 10) - 1]
    return TimeErrors(len(sizes_s), statistics.median(sizes_s), p90_s, statistics.median(shifts_s))


def _words_heard_right(
    reference: Sequence[Word], heard: Sequence[Word]
) -> Iterator[tuple[Word, Word]]:
    said, written = _comparable(reference), _comparable(heard)
    aligned = jiwer.process_words(
        " ".join(text for text, _ in said), " ".join(text for text, _ in written)
    )
    for chunk in aligned.alignments[0]:
        if chunk.type == "equal":
            for offset in range(chunk.ref_end_idx - chunk.ref_start_idx):
                yield (
                    said[chunk.ref_start_idx + offset][1],
                    written[chunk.hyp_start_idx + offset][1],
                )


def _comparable(words: Sequence[Word]) -> list[tuple[str, Word]]:
    """One plain token per word, so that positions in the alignment are words."""
    plain = normaliser("plain")
    tokens = [(plain(word.text).replace(" ", ""), word) for word in words]
    return [(token, word) for token, word in tokens if token]
