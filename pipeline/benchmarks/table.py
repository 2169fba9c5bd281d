"""Results, as tables in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int | None  # None: not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What was measured, a row for each case."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} columns")

    def markdown(self) -> str:
        rule = ["--:" if _is_number(cell) else "---" for cell in self._sample()]
        lines = [self.columns, rule, *([shown(cell) for cell in row] for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"## {self.title}\n\n{table}\n" + (f"{notes}\n" if notes else "")

    def _sample(self) -> Sequence[Cell]:
        return self.rows[0] if self.rows else self.columns


def shown(cell: Cell) -> str:
    """Three figures that count; nothing for what was not measured."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _is_number(cell: Cell) -> bool:
    return cell is None or isinstance(cell, int | float)
