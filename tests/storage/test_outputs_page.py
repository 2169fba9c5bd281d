"""What the outputs page shows to readers of the tables works as it stands there."""

import re
from dataclasses import fields

import duckdb
import pytest

from nightscribe.records import Inspection
from nightscribe.stitching import stitch
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_failures, publish_transcripts
from nightscribe.storage.schema import FAILURES, TRANSCRIPTS
from tests.documents import ROOT, code_blocks
from tests.storage.records import failure, heard, heard_all, recording, shards

PAGE = ROOT / "docs/outputs.md"


@pytest.fixture
def output(tmp_path):
    """Tables as a run leaves them: an empty file each from its start, and some more."""
    store = open_store(str(tmp_path), S3Config())
    for first, count in ((0, 0), (0, 3), (3, 2)):
        numbers = range(first, first + count)
        found = [recording(f"{n}", language="is" if n % 2 else "en") for n in numbers]
        publish_transcripts(store, [stitch(heard_all(one, 2)) for one in found])
    publish_failures(store, [])
    publish_failures(store, [failure(recording("bad")), failure(recording("worse"))])
    return tmp_path


def snippet(language, word, output):
    (block,) = [block for block in code_blocks(PAGE, language) if word in block]
    return block.replace("OUTPUT", str(output))


def result_of(script):
    names = {}
    exec(script, names)
    return names["result"]


def test_duckdb_reads_the_words(output):
    rows = duckdb.sql(snippet("sql", "unnest", output)).fetchall()
    assert len(rows) == 20
    assert rows[0][1:] == ("end", 8.0, 0.25)


def test_polars_reads_what_needs_a_look(output):
    store = open_store(str(output), S3Config())
    assert result_of(snippet("python", "polars", output)).is_empty()
    broken = stitch([heard(shard) for shard in shards(recording("cut"), 1, damage="cut short")])
    publish_transcripts(store, [broken])
    (row,) = result_of(snippet("python", "polars", output)).to_dicts()
    assert row == {"uri": broken.recording.uri, "status": "partial", "reasons": ["cut short"]}


def test_pandas_counts_the_failures(output):
    assert result_of(snippet("python", "pandas", output)).to_dict() == {("decode", "no_audio"): 2}


def test_the_page_names_columns_that_exist():
    section = PAGE.read_text().partition("| column of transcripts |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in section.splitlines()[2:]]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named
    assert named <= {*TRANSCRIPTS}
    assert {"stage", "reason", "detail", "attempts", "shard"} <= {*FAILURES}


def test_the_page_names_every_column_of_the_guards():
    named = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert {field.name for field in fields(Inspection)} - {"speech_s"} <= named
