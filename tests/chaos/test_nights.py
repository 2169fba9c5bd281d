"""Nights over a growing archive, struck; the long storm is `python -m tests.chaos.nights`."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_transcripts
from tests.chaos.readers import Reader, content_of, text_of
from tests.chaos.tables import keys, read
from tests.storage.records import recording
from tests.storage.test_retiring import said

ROOT = Path(__file__).parent.parent.parent
WORDS = [sys.executable, "-m", "tests.chaos.nights", "--recordings", "6", "--limit-s", "600"]
A, B, NEW_A = recording("a"), recording("b"), recording("a", version="new")


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_whoever_is_struck_in_any_night_the_tables_are_those_of_one_run_over_the_last_state():
    words = [*WORDS, "--moments", "12", "--seed", "3"]
    raged = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=3500)
    assert raged.returncode == 0, raged.stdout + raged.stderr
    assert "| complaints | 0 |" in raged.stdout
    assert "| moments struck | 0 |" not in raged.stdout


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    publish_transcripts(store, [said(A)])
    publish_transcripts(store, [said(B)])
    return store


def reader_of(store):
    rows = [row for key in keys(store, "transcripts") for row in read(store, key).to_pylist()]
    return Reader(store, {content_of(row): text_of(row) for row in rows}, grace_s=60.0)


def look(reader):
    reader._look()
    return " ".join(reader.complaints)


def remove(store, of):
    for key in list(keys(store, "transcripts")):
        if read(store, key)["uri"].to_pylist() == [of.uri]:
            store.delete(key)


def test_a_transcript_that_is_missing_is_found_unless_its_file_is_gone(store):
    reader = reader_of(store)
    assert look(reader) == ""
    remove(store, A)
    reader.expect_gone({A.uri})
    assert look(reader) == ""
    remove(store, B)
    assert look(reader) == f"{B.uri} is missing"


def test_a_transcript_that_goes_back_stands_for_another_or_is_half_there_is_found(store):
    publish_transcripts(store, [said(NEW_A, 2)])
    reader = reader_of(store)
    assert look(reader) == ""
    publish_transcripts(store, [said(replace(A, version="third"), 2)])
    assert "has two recordings of revision 2" in look(reader)
    assert "of revision 2 has other words" in look(reader)
    for key in list(keys(store, "transcripts")):
        if read(store, key)["revision"].to_pylist() == [2]:
            store.delete(key)
    assert f"{A.uri} went back to revision 1" in look(reader)
