"""Word errors with speakers: cpWER and tcpWER, as the package `meeteval` defines them.

What each speaker says is joined (cp: concatenated), and speakers of both sides are paired so that
the errors are fewest (minimum permutation). For tcpWER (time-constrained) words are the same only
if they are near in time, too: a text with times is divided among its words by their characters, and
a word of the hypothesis is a moment with a collar around it.

`meeteval` itself is not used: it has no wheel and needs a C++ compiler where it is installed.

R words of the reference, H words of the hypothesis.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, zip_longest

import numpy as np
from numpy.typing import NDArray

from nightscribe.scoring.speaker_errors import assignment

COLLAR_S = 5.0  # the usual one of tcpWER
APART = 2  # a deletion and an insertion


@dataclass(frozen=True, slots=True)
class SpokenText:
    """What one speaker says within one span: words with single spaces between them."""

    speaker: str
    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SpeakerWordErrors:
    """Errors of words, where a word of another speaker is an error."""

    num_errors: int = 0
    num_reference: int = 0

    @property
    def rate(self) -> float | None:
        return self.num_errors / self.num_reference if self.num_reference else None

    def __add__(self, other: "SpeakerWordErrors") -> "SpeakerWordErrors":
        return SpeakerWordErrors(
            self.num_errors + other.num_errors, self.num_reference + other.num_reference
        )


@dataclass(frozen=True, slots=True)
class _Timed:
    """The words of one speaker as numbers, and when each is spoken."""

    words_N: NDArray[np.int64]
    start_N: NDArray[np.float64]
    end_N: NDArray[np.float64]


NOTHING = _Timed(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def cp_word_errors(
    reference: Iterable[SpokenText], hypothesis: Iterable[SpokenText]
) -> SpeakerWordErrors:
    """The errors of one recording, whenever the words are spoken."""
    return _fewest_errors(reference, hypothesis, np.inf)


def tcp_word_errors(
    reference: Iterable[SpokenText], hypothesis: Iterable[SpokenText], collar_s: float = COLLAR_S
) -> SpeakerWordErrors:
    """The errors of one recording; words more than the collar apart are not the same."""
    return _fewest_errors(reference, hypothesis, collar_s)


def _fewest_errors(
    reference: Iterable[SpokenText], hypothesis: Iterable[SpokenText], collar_s: float
) -> SpeakerWordErrors:
    numbers: dict[str, int] = {}
    true = _by_speaker(reference, numbers)
    found = [_moments(one, collar_s) for one in _by_speaker(hypothesis, numbers)]
    size = max(len(true), len(found))
    pairs = [
        [_num_errors(one, other) for other, _ in zip_longest(found, range(size), fillvalue=NOTHING)]
        for one, _ in zip_longest(true, range(size), fillvalue=NOTHING)
    ]
    errors = np.array(pairs, dtype=float).reshape(size, size)
    num_errors = sum(int(errors[r, h]) for r, h in assignment(-errors))
    return SpeakerWordErrors(num_errors, sum(len(one.words_N) for one in true))


def _by_speaker(spoken: Iterable[SpokenText], numbers: dict[str, int]) -> list[_Timed]:
    by_speaker: dict[str, list[SpokenText]] = defaultdict(list)
    for one in sorted(spoken, key=lambda one: one.start_s):
        by_speaker[one.speaker].append(one)
    return [_timed(some, numbers) for some in by_speaker.values()]


def _timed(spoken: Sequence[SpokenText], numbers: dict[str, int]) -> _Timed:
    words = [word for one in spoken for word in one.text.split()]
    spans = [span for one in spoken for span in _word_spans(one)]
    spans_N2 = np.array(spans, dtype=float).reshape(-1, 2)
    words_N = np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)
    return _Timed(words_N, spans_N2[:, 0], spans_N2[:, 1])


def _word_spans(spoken: SpokenText) -> list[tuple[float, float]]:
    """The span divided among its words by their number of characters."""
    lengths = [len(word) for word in spoken.text.split()]
    per_character_s = (spoken.end_s - spoken.start_s) / max(sum(lengths), 1)
    edges_s = [
        spoken.start_s + per_character_s * length for length in accumulate(lengths, initial=0)
    ]
    return list(pairwise(edges_s))


def _moments(spoken: _Timed, collar_s: float) -> _Timed:
    middle_N = (spoken.start_N + spoken.end_N) / 2
    return _Timed(spoken.words_N, middle_N - collar_s, middle_N + collar_s)


def _num_errors(true: _Timed, found: _Timed) -> int:
    """The edit distance, in which words at different times cannot be one."""
    places_H = np.arange(len(found.words_N) + 1)
    row_H = places_H.copy()
    spans = zip(true.words_N.tolist(), true.start_N.tolist(), true.end_N.tolist(), strict=True)
    for deleted, (word, start_s, end_s) in enumerate(spans, start=1):
        is_near_H = (found.start_N < end_s) & (start_s < found.end_N)
        cost_H = np.where(is_near_H, found.words_N != word, APART)
        following_H = np.minimum(row_H[1:] + 1, row_H[:-1] + cost_H)
        following_H = np.concatenate([[deleted], following_H])
        # An insertion costs one more than the place before it.
        row_H = np.minimum.accumulate(following_H - places_H) + places_H
    return int(row_H[-1])
