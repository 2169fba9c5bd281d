"""The worked example of the operating page is computed from what was measured."""

import re
from pathlib import Path

from ops.benchmarks.sizing import WORKED_EXAMPLE, Archive, Assumed, Measured, needs, table

ROOT = Path(__file__).parent.parent.parent.parent
PAGE = (ROOT / "docs/operating.md").read_text()
FILES = ROOT / "ops/benchmarks"
FIGURES = (FILES / "control-plane_epyc-zen3-2-cores_2026-11-30.md").read_text()
NEWER = (FILES / "control-plane_epyc-zen3-2-cores_2026-12-01.md").read_text()


def test_the_page_shows_what_is_computed_and_says_so():
    assert "\n".join(table(WORKED_EXAMPLE)) in PAGE
    assert "Nobody has run this" in PAGE


def last_column(section: str, figures: str = FIGURES) -> dict[str, float]:
    """The figures of a section by what stands in their first column."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", figures, re.M | re.S)
    rows = re.findall(r"^\| (\w+) \| .* \| ([\d.]+) \|$", text, re.M)
    return {name: float(value) for name, value in rows}


def test_the_costs_are_those_of_the_measurement():
    one, several = last_column("One graph", NEWER), last_column("Several executors")
    requests = last_column("Requests")
    assert (Measured().executor_ms, Measured().all_ms) == (one["driver"], one["all"])
    assert Measured().central_ms == several["driver"]
    assert Measured().puts_a_shard == requests["PUT"]
    assert Measured().gets_a_shard == requests["GET"]


def test_twice_the_gpus_take_half_the_time_and_twice_the_cores():
    one, two = (
        needs(Archive(hours=1000, shard_s=45.0, file_s=60.0, num_gpus=n), Measured(), Assumed())
        for n in (8, 16)
    )
    assert (one["time"], two["time"]) == ("0.1 h", "0.0 h")
    assert one["shards"].startswith("0 million, 356 a second")
    assert two["executors"].startswith("2,")
    assert one["cores that decode"] == "40, 5.0 for each GPU"
    assert two["cores that decode"] == "80, 5.0 for each GPU"
