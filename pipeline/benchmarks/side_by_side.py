"""Our times beside the others', as cells of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.benchmarks.table import Cell
from pipeline.benchmarks.timing import Spent, medians

OURS, MOSHI, TRANSFORMERS = "ours", "moshi", "transformers"
OTHERS = (MOSHI, TRANSFORMERS)
COLUMNS = (
    "ours ms",
    "moshi ms",
    "transformers ms",
    "x moshi",
    "x transformers",
    "x moshi, processor time",
    "x transformers, processor time",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what, against whom and how often something is measured."""

    device: torch.device
    dtype: torch.dtype
    num_slots: Sequence[int]
    peers: Sequence[str]
    repeats: int


def cells(spent: Mapping[str, Sequence[Spent]], num_units: int) -> tuple[Cell, ...]:
    """Milliseconds a unit of each, then how many times ours theirs are; under `COLUMNS`."""
    times = {name: medians(several) for name, several in spent.items()}
    ours = times[OURS]
    others = [times.get(name) for name in OTHERS]
    return (
        *(time and 1e3 * time.wall_s / num_units for time in (ours, *others)),
        *(time and time.wall_s / ours.wall_s for time in others),
        *(time and time.processor_s / ours.processor_s for time in others),
    )
