"""Old rows go after the new ones are whole and visible, at any kill, and nothing else goes."""

import itertools
from dataclasses import replace

import pytest

from nightscribe.records import PlannedRecording, Speaker, SpeakerSpan
from nightscribe.stitching import stitch
from nightscribe.storage.corrections import Correction, correct
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import commit, receipts
from nightscribe.storage.result_tables import (
    endings,
    publish_failures,
    publish_transcripts,
    read_failures,
    read_transcripts,
)
from nightscribe.storage.retiring import retire
from nightscribe.storage.run import Night, begin, write_plan
from nightscribe.storage.tables import files, read_rows
from nightscribe.storage.voices import voices_file
from tests.storage.dying import survives
from tests.storage.records import failure, heard_all, recording

SETTINGS = {"model": "tiny"}


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


def night(store, tmp_path, recordings, **asked):
    """The plan after one more night."""
    path = tmp_path / "plan.parquet"
    planned = [PlannedRecording(recording=one, window=0, estimated_s=1.0) for one in recordings]
    write_plan(planned, path)
    begin(store, path, SETTINGS, Night(**asked))


def said(of, revision=1):
    return stitch(heard_all(replace(of, revision=revision), 2))


def rows(store, folder="transcripts"):
    """Every row that a plain glob finds: name, version and revision."""
    found = []
    for entry in files(store, folder):
        for row in read_rows(store, entry.key).to_pylist():
            channel = "" if row["channel"] is None else f".{row['channel']}"
            found.append((row["uri"][-5] + channel, row["version"], row["revision"]))
    return sorted(found)


def retired(store, is_settled=True):
    return retire(store, lambda: None, 0.0, is_settled)


A, B, C = (recording(name) for name in "abc")
NEW_A = recording("a", version="new")


def test_the_old_transcript_goes_once_the_new_one_is_visible(store, tmp_path):
    night(store, tmp_path, [A, B, C])
    publish_transcripts(store, [said(A), said(B), said(C)])
    night(store, tmp_path, [NEW_A, B, C])
    assert retired(store, is_settled=False) == 0
    assert len(rows(store)) == 3
    publish_transcripts(store, [said(NEW_A, 2)])
    assert [one.recording.version for one in read_transcripts(store)].count("v-a") == 0
    assert retired(store) == 1
    assert rows(store) == [("a", "new", 2), ("b", "v-b", 1), ("c", "v-c", 1)]


def test_a_failure_of_the_new_version_keeps_the_old_words(store, tmp_path):
    night(store, tmp_path, [A, B])
    publish_transcripts(store, [said(A), said(B)])
    night(store, tmp_path, [NEW_A, B])
    publish_failures(store, [failure(replace(NEW_A, revision=2))])
    assert retired(store) == 0
    assert rows(store) == [("a", "v-a", 1), ("b", "v-b", 1)]


def test_an_old_failure_goes_with_the_new_result(store, tmp_path):
    night(store, tmp_path, [A, B])
    publish_failures(store, [failure(A), failure(B)])
    night(store, tmp_path, [NEW_A, B])
    publish_transcripts(store, [said(NEW_A, 2)])
    assert retired(store) == 1
    assert rows(store, "failures") == [("b", "v-b", 1)]
    assert rows(store) == [("a", "new", 2)]


def test_a_file_that_is_split_is_replaced_when_all_its_channels_are_there(store, tmp_path):
    night(store, tmp_path, [A])
    publish_transcripts(store, [said(A)])
    night(store, tmp_path, [NEW_A])
    left, right = NEW_A.split(2)
    publish_transcripts(store, [said(left, 2)])
    assert retired(store, is_settled=False) == 0
    publish_failures(store, [failure(replace(right, revision=2))])
    assert retired(store) == 1
    assert rows(store) == [("a.0", "new", 2)]


def test_a_file_with_fewer_channels_than_before_leaves_none_behind(store, tmp_path):
    night(store, tmp_path, [A])
    publish_transcripts(store, [said(channel) for channel in A.split(2)])
    night(store, tmp_path, [NEW_A])
    publish_transcripts(store, [said(NEW_A, 2)])
    assert retired(store) == 2
    assert rows(store) == [("a", "new", 2)]


def test_dropped_recordings_go_and_those_that_are_back_stay(store, tmp_path):
    night(store, tmp_path, [A, B, C])
    publish_transcripts(store, [said(A), said(B)])
    publish_failures(store, [failure(C)])
    night(store, tmp_path, [B], missing="drop")
    night(store, tmp_path, [B, C], missing="drop")
    assert retired(store) == 1
    assert rows(store) == [("b", "v-b", 1)]
    publish_failures(store, [failure(replace(C, revision=3))])
    night(store, tmp_path, [], missing="drop", max_dropped_share=1.0)
    retired(store)
    assert (rows(store), rows(store, "failures")) == ([], [])


def test_transcripts_that_are_kept_stay(store, tmp_path):
    night(store, tmp_path, [A, B])
    publish_transcripts(store, [said(A), said(B)])
    night(store, tmp_path, [B])
    assert retired(store) == 0
    assert len(rows(store)) == 2


def test_what_was_replaced_is_kept_for_comparisons_and_what_was_dropped_is_not(store, tmp_path):
    night(store, tmp_path, [A, B, C])
    publish_transcripts(store, [said(A), said(B), said(C)])
    night(store, tmp_path, [NEW_A, B], missing="drop")
    publish_transcripts(store, [said(NEW_A, 2)])
    assert retired(store) == 2
    assert rows(store, "_run/replaced") == [("a", "v-a", 1)]


def voices(store):
    """Whose voices a glob finds: name and revision."""
    found = [
        row for entry in files(store, "voices") for row in read_rows(store, entry.key).to_pylist()
    ]
    return sorted({(row["uri"][-5], row["revision"]) for row in found})


def spoken(of, revision=1):
    """A transcript, with its voice in the table of voices."""
    one = said(of, revision)
    vector = bytes(16)
    spans = (SpeakerSpan("speaker-1", 0.0, 3.0),)
    return replace(one, speakers=(Speaker("speaker-1", 3.0, 1, vector),), speaker_spans=spans)


def publish_with_voices(store, *transcripts):
    made = voices_file(transcripts)
    assert made is not None
    store.write(*made)
    publish_transcripts(store, transcripts)


def test_voices_go_with_their_transcripts_whether_replaced_revised_or_dropped(store, tmp_path):
    night(store, tmp_path, [A, B, C])
    publish_with_voices(store, spoken(A), spoken(B), spoken(C))
    night(store, tmp_path, [NEW_A, B], missing="drop")
    publish_with_voices(store, spoken(NEW_A, 2), spoken(B, 2))
    assert voices(store) == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 1)]
    retired(store)
    assert voices(store) == [("a", 2), ("b", 2)]


def test_voices_of_a_transcript_that_stands_twice_stay(store, tmp_path):
    night(store, tmp_path, [A, B])
    publish_with_voices(store, spoken(A), spoken(B))
    publish_transcripts(store, [spoken(B)])
    night(store, tmp_path, [NEW_A, B])
    publish_with_voices(store, spoken(NEW_A, 2))
    assert retired(store) == 2
    assert voices(store) == [("a", 2), ("b", 1)]


def test_killed_at_any_moment_the_voices_go_with_the_next_call(tmp_path):
    for num_changes in itertools.count():
        store = open_store(f"{tmp_path}/{num_changes}", S3Config())
        night(store, tmp_path, [A, B])
        publish_with_voices(store, spoken(A), spoken(B))
        night(store, tmp_path, [NEW_A, B])
        publish_with_voices(store, spoken(NEW_A, 2))
        ended = survives(retired, store, num_changes)
        assert {("a", 2), ("b", 1)} <= {*voices(store)}
        retired(store)
        assert voices(store) == [("a", 2), ("b", 1)]
        if ended:
            break


def test_a_corrected_transcript_keeps_its_voices(store, tmp_path):
    night(store, tmp_path, [A, B])
    publish_with_voices(store, spoken(A), spoken(B))
    correction = Correction(where="row 1", name=A.recording_id, text="other words")
    assert correct(store, [correction], "Ada", lambda: None, 0.0) == 1
    assert voices(store) == [("a", 2), ("b", 1)]


def test_of_a_dropped_recording_no_shard_is_kept(store, tmp_path):
    night(store, tmp_path, [A, B])
    commit(store, [*heard_all(A, 2), *heard_all(B, 1)])
    publish_transcripts(store, [said(A), said(B)])
    night(store, tmp_path, [B], missing="drop")
    retired(store)
    assert {one.recording_id for one in receipts(store)} == {B.recording_id}


def test_nothing_is_read_once_a_generation_is_settled(store, tmp_path, monkeypatch):
    night(store, tmp_path, [A])
    publish_transcripts(store, [said(A)])
    night(store, tmp_path, [NEW_A])
    publish_transcripts(store, [said(NEW_A, 2)])
    assert retired(store) == 1
    monkeypatch.setattr("nightscribe.storage.retiring._candidates", None)
    assert retired(store) == 0


def test_whenever_it_is_killed_readers_find_every_place_and_the_next_call_mends(folder, tmp_path):
    for num_changes in itertools.count():
        store = open_store(f"{folder}/{num_changes}", S3Config())
        night(store, tmp_path, [A, B, C])
        publish_transcripts(store, [said(A), said(B), said(C)])
        publish_failures(store, [])
        night(store, tmp_path, [NEW_A, B, C])
        publish_transcripts(store, [said(NEW_A, 2)])
        ended = survives(retired, store, num_changes)
        assert {place for place, _, _ in rows(store)} == {"a", "b", "c"}
        newest = [(one.recording.uri[-5], one.recording.version) for one in read_transcripts(store)]
        assert sorted(newest) == [("a", "new"), ("b", "v-b"), ("c", "v-c")]
        assert sorted(one.status for one in endings(store)) == ["ok"] * 3
        retired(store)
        assert rows(store) == [("a", "new", 2), ("b", "v-b", 1), ("c", "v-c", 1)]
        assert not list(read_failures(store))
        if ended:
            break
    assert num_changes == 4  # what is replaced is kept; the rest, the old file, the mark
