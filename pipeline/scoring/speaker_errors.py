"""Diarization error rate (DER) and Jaccard error rate (JER), over time without a collar.

    DER = (missed + false alarm + confusion) / speech of the reference

Speakers of the reference and of the hypothesis are paired so that they share most time (for JER: so
that the errors are least, as in the DIHARD evaluations). Overlapped speech counts for each speaker.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightscribe.records import SpeakerSpan

UNSCORED_S = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerErrors:
    """Seconds of each kind of error; those of several recordings add up."""

    reference_s: float = 0.0
    missed_s: float = 0.0
    false_alarm_s: float = 0.0
    confused_s: float = 0.0
    jaccard_errors: float = 0.0  # the sum over the speakers of the reference
    num_speakers: int = 0  # of the reference
    num_found: int = 0
    num_rightly_counted: int = 0  # recordings
    num_recordings: int = 0

    @property
    def diarization_error_rate(self) -> float | None:
        if not self.reference_s:
            return None
        return (self.missed_s + self.false_alarm_s + self.confused_s) / self.reference_s

    @property
    def jaccard_error_rate(self) -> float | None:
        return self.jaccard_errors / self.num_speakers if self.num_speakers else None

    def __add__(self, other: "SpeakerErrors") -> "SpeakerErrors":
        names = SpeakerErrors.__slots__
        return SpeakerErrors(**{name: getattr(self, name) + getattr(other, name) for name in names})


def speaker_errors(
    reference: Iterable[SpeakerSpan], hypothesis: Iterable[SpeakerSpan], collar_s: float = 0.0
) -> SpeakerErrors:
    """The errors of one recording; `collar_s` around each reference boundary is not scored."""
    reference, hypothesis = list(reference), list(hypothesis)
    pieces = list(_pieces(reference, hypothesis, collar_s))
    names = sorted({span.speaker for span in reference})
    found = sorted({span.speaker for span in hypothesis})
    shared_RH = np.zeros((len(names), len(found)))
    reference_s, hypothesis_s = Counter[str](), Counter[str]()
    for duration_s, true, guessed in pieces:
        for name in true:
            reference_s[name] += duration_s  # type: ignore[assignment]
        for name in guessed:
            hypothesis_s[name] += duration_s  # type: ignore[assignment]
        for name in true:
            for other in guessed:
                shared_RH[names.index(name), found.index(other)] += duration_s
    pairs = {names[r]: found[h] for r, h in assignment(shared_RH) if shared_RH[r, h] > 0}
    return SpeakerErrors(
        reference_s=sum(duration_s * len(true) for duration_s, true, _ in pieces),
        missed_s=sum(d * max(len(true) - len(guessed), 0) for d, true, guessed in pieces),
        false_alarm_s=sum(d * max(len(guessed) - len(true), 0) for d, true, guessed in pieces),
        confused_s=sum(
            d * (min(len(true), len(guessed)) - sum(pairs.get(name) in guessed for name in true))
            for d, true, guessed in pieces
        ),
        jaccard_errors=_jaccard_errors(names, found, shared_RH, reference_s, hypothesis_s),
        num_speakers=len(names),
        num_found=len(found),
        num_rightly_counted=int(len(names) == len(found)),
        num_recordings=1,
    )


def assignment(gains_RH: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of a row and a column with the greatest sum of gains: the Hungarian method."""
    num_rows, num_columns = gains_RH.shape
    size = max(num_rows, num_columns)
    costs = np.zeros((size, size))
    costs[:num_rows, :num_columns] = -gains_RH
    row_prices, column_prices = np.zeros(size + 1), np.zeros(size + 1)
    row_of = np.zeros(size + 1, int)  # of each column, both from 1; column 0 holds the new row
    for row in range(1, size + 1):
        row_of[0] = row
        before = _shortest_path(costs, row_prices, column_prices, row_of)
        column = before[-1]
        while column:
            previous = before[column]
            row_of[column] = row_of[previous]
            column = previous
    pairs = ((row_of[column] - 1, column - 1) for column in range(1, size + 1))
    return [(int(r), int(c)) for r, c in pairs if r < num_rows and c < num_columns]


def _shortest_path(
    costs: NDArray, row_prices: NDArray, column_prices: NDArray, row_of: NDArray
) -> list[int]:
    """The column before each one on the cheapest way to a free column, which is put last."""
    size = len(costs)
    least = np.full(size + 1, np.inf)
    is_used = np.zeros(size + 1, bool)
    before = [0] * (size + 1)
    column = 0
    while row_of[column]:
        is_used[column] = True
        row = row_of[column]
        reduced = costs[row - 1] - row_prices[row] - column_prices[1:]
        nearer = 1 + np.flatnonzero(~is_used[1:] & (reduced < least[1:]))
        least[nearer] = reduced[nearer - 1]
        for one in nearer:
            before[one] = column
        open_columns = np.where(is_used, np.inf, least)
        open_columns[0] = np.inf
        following = int(open_columns.argmin())
        step = open_columns[following]
        row_prices[row_of[is_used]] += step
        column_prices[is_used] -= step
        least[~is_used] -= step
        column = following
    return [*before, column]


def _pieces(
    reference: Sequence[SpeakerSpan], hypothesis: Sequence[SpeakerSpan], collar_s: float
) -> Iterator[tuple[float, frozenset[str], frozenset[str]]]:
    """Stretches within which nothing changes: their length, and who speaks by both sides."""
    changes: dict[float, list[tuple[int, str, int]]] = defaultdict(list)
    for side, spans in enumerate((reference, hypothesis)):
        for span in spans:
            changes[span.start_s].append((side, span.speaker, 1))
            changes[span.end_s].append((side, span.speaker, -1))
    if collar_s:
        for edge_s in {edge for span in reference for edge in (span.start_s, span.end_s)}:
            changes[edge_s - collar_s].append((2, "", 1))
            changes[edge_s + collar_s].append((2, "", -1))
    speaking: tuple[Counter[str], ...] = (Counter(), Counter(), Counter())
    before_s = 0.0
    for time_s in sorted(changes):
        true, guessed, unscored = ({n for n, k in side.items() if k > 0} for side in speaking)
        if time_s - before_s > UNSCORED_S and (true or guessed) and not unscored:
            yield time_s - before_s, frozenset(true), frozenset(guessed)
        for side, name, change in changes[time_s]:
            speaking[side][name] += change
        before_s = time_s


def _jaccard_errors(
    names: Sequence[str],
    found: Sequence[str],
    shared_RH: NDArray,
    reference_s: Counter[str],
    hypothesis_s: Counter[str],
) -> float:
    """For each speaker the share of the time of either side that both do not have."""
    reference_R1 = np.array([reference_s[name] for name in names])[:, None]
    hypothesis_H = np.array([hypothesis_s[name] for name in found])
    alike_RH = shared_RH / np.maximum(reference_R1 + hypothesis_H - shared_RH, UNSCORED_S)
    return len(names) - sum(alike_RH[r, h] for r, h in assignment(alike_RH))
