"""Our times beside those of the reference implementations, as cells of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nightscribe.benchmarks.measurements import Elapsed, medians
from nightscribe.benchmarks.report import Cell

OURS, MOSHI, TRANSFORMERS = "ours", "moshi", "transformers"
OTHERS = (MOSHI, TRANSFORMERS)
COLUMNS = (
    "ours ms",
    "moshi ms",
    "transformers ms",
    "x moshi",
    "x transformers",
    "x moshi, CPU time",
    "x transformers, CPU time",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Device, precision, numbers of slots, peers and repeats of a comparison."""

    device: torch.device
    dtype: torch.dtype
    num_slots: Sequence[int]
    peers: Sequence[str]
    repeats: int


def cells(elapsed: Mapping[str, Sequence[Elapsed]], num_units: int) -> tuple[Cell, ...]:
    """Milliseconds per unit of each, then their time over ours; in the order of `COLUMNS`."""
    times = {name: medians(several) for name, several in elapsed.items()}
    wall_s = {name: time.wall_s for name, time in times.items()}
    cpu_s = {name: time.cpu_s for name, time in times.items()}
    return (
        *(_quotient(wall_s.get(name), num_units / 1e3) for name in (OURS, *OTHERS)),
        *(_quotient(wall_s.get(name), wall_s[OURS]) for name in OTHERS),
        *(_quotient(cpu_s.get(name), cpu_s[OURS]) for name in OTHERS),
    )


def _quotient(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
