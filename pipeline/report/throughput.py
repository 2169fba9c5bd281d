"""Progress as a rate: how many seconds of audio were transcribed per second of the run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nightscribe.report.content import Progress

# Work is told of when it is done, in bursts: shorter stretches than these show only those.
MAX_POINTS = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """The throughput and occupancy of a stretch, as at its middle."""

    elapsed_s: float
    times_real_time: float
    occupancy: float | None


def rates(progress: Sequence[Progress]) -> list[Rate]:
    """The rates of a few dozen stretches of the run, as even as its moments are."""
    moments = sorted(progress, key=lambda moment: moment.elapsed_s)
    return [
        _rate(stretch)
        for stretch in _stretches(moments)
        if stretch[-1].elapsed_s > stretch[0].elapsed_s
    ]


def _stretches(moments: Sequence[Progress]) -> Iterator[Sequence[Progress]]:
    """Runs of moments, each beginning with the last one of the run before."""
    stride = max(-(-len(moments) // MAX_POINTS), 1)
    for first in range(0, len(moments) - 1, stride):
        yield moments[first : first + stride + 1]


def _rate(stretch: Sequence[Progress]) -> Rate:
    first, last = stretch[0], stretch[-1]
    told = [moment.occupancy for moment in stretch[1:] if moment.occupancy is not None]
    return Rate(
        (first.elapsed_s + last.elapsed_s) / 2,
        (last.audio_s - first.audio_s) / (last.elapsed_s - first.elapsed_s),
        sum(told) / len(told) if told else None,
    )
