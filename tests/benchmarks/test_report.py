"""Tables show what was measured."""

import pytest

from nightscribe.benchmarks.measurements import Elapsed
from nightscribe.benchmarks.report import Table, formatted
from ops.benchmarks.side_by_side import COLUMNS, MOSHI, OURS, TRANSFORMERS, cells


def parsed(markdown: str) -> list[dict[str, str]]:
    """The rows of the only table of a text."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    columns, rule, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert all(set(cell) <= {"-", ":"} for cell in rule)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_a_table_can_be_read_back():
    table = Table(
        title="Steps",
        columns=("slots", "ms", "of", "note"),
        rows=[(8, 1.2345, None, "a"), (1024, 2345.6, 0.5, "b")],
        notes=("Nobody measured the first.",),
    )
    assert parsed(table.markdown()) == [
        {"slots": "8", "ms": "1.23", "of": "", "note": "a"},
        {"slots": "1,024", "ms": "2,346", "of": "0.5", "note": "b"},
    ]
    assert table.markdown().startswith("## Steps\n")
    assert table.markdown().endswith("Nobody measured the first.\n")


def test_a_row_has_a_cell_for_every_column():
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        Table(title="", columns=("a", "b"), rows=[(1,)])


def test_a_figure_is_shown_with_what_counts():
    assert [formatted(cell) for cell in (0.0123456, 99.96, 1234.4, 7, None)] == [
        "0.0123",
        "100",
        "1,234",
        "7",
        "",
    ]


def test_ratios_are_of_medians_and_of_a_unit():
    ours = [Elapsed(wall_s, 0.1) for wall_s in (0.2, 0.1, 9.0)]
    moshi = [Elapsed(wall_s, 0.4) for wall_s in (0.5, 0.6, 0.1)]
    row = dict(zip(COLUMNS, cells({OURS: ours, MOSHI: moshi}, num_units=10), strict=True))
    assert row["ours ms"] == pytest.approx(20)
    assert row["moshi ms"] == pytest.approx(50)
    assert row["x moshi"] == pytest.approx(2.5)
    assert row["x moshi, CPU time"] == pytest.approx(4)
    assert row["transformers ms"] is row["x transformers"] is None


def test_both_others_stand_in_their_own_columns():
    spent = {OURS: [Elapsed(1, 1)], MOSHI: [Elapsed(2, 3)], TRANSFORMERS: [Elapsed(5, 7)]}
    assert cells(spent, num_units=1) == (1000, 2000, 5000, 2, 5, 3, 7)
