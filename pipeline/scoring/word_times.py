"""How far the start times of correct words are from those of the reference."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import jiwer

from nightscribe.records import Word
from nightscribe.scoring.word_errors import normaliser


@dataclass(frozen=True, slots=True)
class TimeErrors:
    """Absolute errors of correct words; `median_shift_s` is signed, positive is late."""

    num_words: int
    median_s: float
    p90_s: float
    median_shift_s: float


def start_shifts_s(reference: Sequence[Word], hypothesis: Sequence[Word]) -> list[float]:
    """Hypothesis start minus reference start of each correct word."""
    pairs = _correct_words(reference, hypothesis)
    return [recognised.start_s - spoken.start_s for spoken, recognised in pairs]


def time_errors(shifts_s: Sequence[float]) -> TimeErrors | None:
    """The median and 90th percentile of the shifts; None where there are none."""
    if not shifts_s:
        return None
    sizes_s = sorted(abs(shift_s) for shift_s in shifts_s)
    # The smallest error that at least nine words in ten do not exceed.
    p90_s = sizes_s[ceil(len(sizes_s) * 9 / 10) - 1]
    return TimeErrors(len(sizes_s), statistics.median(sizes_s), p90_s, statistics.median(shifts_s))


def _correct_words(
    reference: Sequence[Word], hypothesis: Sequence[Word]
) -> Iterator[tuple[Word, Word]]:
    reference_tokens, hypothesis_tokens = _comparable(reference), _comparable(hypothesis)
    aligned = jiwer.process_words(
        " ".join(text for text, _ in reference_tokens),
        " ".join(text for text, _ in hypothesis_tokens),
    )
    for chunk in aligned.alignments[0]:
        if chunk.type == "equal":
            for offset in range(chunk.ref_end_idx - chunk.ref_start_idx):
                yield (
                    reference_tokens[chunk.ref_start_idx + offset][1],
                    hypothesis_tokens[chunk.hyp_start_idx + offset][1],
                )


def _comparable(words: Sequence[Word]) -> list[tuple[str, Word]]:
    """One normalised token per word, so that positions in the alignment are words."""
    plain = normaliser("plain")
    tokens = [(plain(word.text).replace(" ", ""), word) for word in words]
    return [(token, word) for token, word in tokens if token]
