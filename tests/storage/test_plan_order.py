"""The most valuable recordings first, whatever value means."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from nightscribe.records import PlannedRecording
from nightscribe.storage.plan_order import ordered
from nightscribe.storage.rows import planned_row
from nightscribe.storage.schema import PLAN_SCHEMA
from tests.storage.records import recording

LENGTHS_S = {"a": 2.0, "b": 9.0, "c": 5.0}


def plan(**change):
    """Two tables, as from two generations."""
    for names in ("ab", "c"):
        rows = [
            planned_row(
                PlannedRecording(
                    recording=replace(recording(name), **change.get(name, {})),
                    window=0,
                    estimated_s=LENGTHS_S[name],
                )
            )
            for name in names
        ]
        yield pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)


def names(tables):
    return "".join(uri[-5] for table in tables for uri in table["uri"].to_pylist())


def extra(value):
    return {"extra": json.dumps({"priority": value})}


def test_without_an_order_the_plan_stays_as_it_is():
    assert names(ordered(plan(), None)) == "abc"


def test_the_longest_come_first():
    assert names(ordered(plan(), "longest")) == "bca"


def test_the_newest_are_of_the_last_night_and_then_changed_last():
    files = {"a": {"version": "9-300"}, "b": {"version": "10-200"}, "c": {"version": "1-100"}}
    assert names(ordered(plan(**files), "newest")) == "abc"
    files["c"]["revision"] = 2
    assert names(ordered(plan(**files), "newest")) == "cab"


def test_on_object_stores_the_last_name_is_the_newest():
    assert names(ordered(plan(), "newest")) == "cba"


def test_the_highest_number_of_a_column_comes_first_and_rows_without_one_last():
    assert names(ordered(plan(b=extra(1), c=extra("7.5")), "priority")) == "cba"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({}, "no recording has a column priority"), ({"b": extra("high")}, "has 'high' there")],
)
def test_a_column_that_orders_nothing_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        names(ordered(plan(**change), "priority"))
