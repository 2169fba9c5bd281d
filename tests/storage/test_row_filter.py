"""Conditions on transcripts mean what they say and are refused when they mean nothing."""

import pyarrow as pa
import pytest

from nightscribe.storage.row_filter import RowFilter
from nightscribe.storage.schema import TRANSCRIPTS_SCHEMA


def table(**columns):
    given = {
        name: pa.array(values, TRANSCRIPTS_SCHEMA.field(name).type)
        for name, values in columns.items()
    }
    return pa.table(given)


def words(*confidences):
    return [{"text": "a", "start_s": 0.0, "end_s": 0.0, "confidence": one} for one in confidences]


ROWS = table(
    status=["ok", "partial", "ok", "empty"],
    words=[words(0.9, 0.9), words(0.9), words(0.5, 0.7), []],
    language=["en", None, "fr", "en"],
    duration_s=[1.0, 2.0, 3.0, 4.0],
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status != 'ok'", [False, True, False, True]),
        ("status != 'ok' or confidence < 0.8", [False, True, True, True]),
        ("confidence < 0.8", [False, False, True, False]),
        ("duration_s > 1 and duration_s <= 3", [False, True, True, False]),
        ("not (status == 'ok')", [False, True, False, True]),
        ("language == 'en'", [True, False, False, True]),
        ("language != 'en'", [False, False, True, False]),
        ("language in ['en', 'fr']", [True, False, True, True]),
        ("status not in ('ok', 'empty')", [False, True, False, False]),
    ],
)
def test_a_condition_holds_for_these_rows(text, expected):
    assert RowFilter(text).mask(ROWS).to_pylist() == expected


def test_a_condition_names_the_columns_that_it_needs():
    needed = RowFilter("status != 'ok' or confidence < 0.8").columns
    assert needed == ["status", "words.list.element.confidence"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("status = 'ok'", "equality is =="),
        ("confidenc < 0.8", "did you mean confidence?"),
        ("status < 3", "compares values of different types"),
        ("duration_s", "it is no condition"),
        ("__import__('os').system('true') == 0", "more than comparisons"),
        ("duration_s + 1 > 2", "more than comparisons"),
        ("", "cannot be read"),
    ],
)
def test_a_condition_that_means_nothing_is_refused_with_the_cure(text, sentence):
    with pytest.raises(ValueError, match="the condition") as refused:
        RowFilter(text)
    assert sentence in str(refused.value)
