"""Progress as a rate: how many seconds of audio were transcribed per second of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.report.content import Progress

MAX_POINTS = 240


@dataclass(frozen=True, slots=True)
class Rate:
    """The throughput and occupancy between two moments."""

    elapsed_s: float
    times_real_time: float
    occupancy: float


def rates(progress: Sequence[Progress]) -> list[Rate]:
    """The rate between neighbours, of a few hundred evenly chosen moments."""
    chosen = _thinned(sorted(progress, key=lambda moment: moment.elapsed_s))
    return [
        Rate(
            (before.elapsed_s + after.elapsed_s) / 2,
            (after.audio_s - before.audio_s) / (after.elapsed_s - before.elapsed_s),
            after.occupancy,
        )
        for before, after in pairwise(chosen)
        if after.elapsed_s > before.elapsed_s
    ]


def _thinned(progress: Sequence[Progress]) -> list[Progress]:
    stride = max(-(-len(progress) // MAX_POINTS), 1)
    kept = list(progress[::stride])
    if progress and kept[-1] is not progress[-1]:
        kept.append(progress[-1])
    return kept
