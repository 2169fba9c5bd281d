"""Our times beside the others', as cells of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nightscribe.benchmarks.table import Cell
from nightscribe.benchmarks.timing import Spent, medians

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
    wall_s = {name: time.wall_s for name, time in times.items()}
    processor_s = {name: time.processor_s for name, time in times.items()}
    return (
        *(_quotient(wall_s.get(name), num_units / 1e3) for name in (OURS, *OTHERS)),
        *(_quotient(wall_s.get(name), wall_s[OURS]) for name in OTHERS),
        *(_quotient(processor_s.get(name), processor_s[OURS]) for name in OTHERS),
    )


def _quotient(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
