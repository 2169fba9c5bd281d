"""Corrections by people stay, and `diff` shows what a revision changed."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from nightscribe.jobs.correct import CorrectConfig, correct_run
from nightscribe.jobs.diff import DiffConfig, diff
from nightscribe.records import PlannedRecording, Word
from nightscribe.stitching import stitch
from nightscribe.storage.corrections import retimed
from nightscribe.storage.generations import generations
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.plan_changes import Revision
from nightscribe.storage.result_tables import (
    publish_transcripts,
    read_transcripts,
)
from nightscribe.storage.run import Night, begin, index_plan, write_plan
from tests.storage.records import heard, heard_all, recording, shards

A, B = recording("a"), recording("b")


@pytest.fixture
def run(tmp_path):
    """A run with two transcripts."""
    store = open_store(str(tmp_path / "out"), S3Config())
    plan(store, tmp_path)
    publish_transcripts(store, [stitch(heard_all(one, 2)) for one in (A, B)])
    return store


def plan(store, tmp_path, model="tiny", **asked):
    path = tmp_path / "plan.parquet"
    planned = [PlannedRecording(recording=one, window=0, estimated_s=1.0) for one in (A, B)]
    write_plan(planned, path)
    begin(store, path, {"model": model}, Night(**asked))
    return path


def corrected(tmp_path, *rows, **options):
    path = tmp_path / "corrections.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    run = str(tmp_path / "out")
    return correct_run(CorrectConfig(run=run, corrections=str(path), retire_s=0.0, **options))


def texts(store):
    return {one.recording.uri[-5]: one.text for one in read_transcripts(store)}


def test_a_correction_replaces_the_words_and_keeps_their_times(run, tmp_path, capsys):
    assert corrected(tmp_path, {"id": A.recording_id, "text": "word0 ends here word1 end"}) == 0
    assert "1 transcripts were corrected" in capsys.readouterr().out
    assert texts(run) == {"a": "word0 ends here word1 end", "b": "word0 end word1 end"}
    (one,) = [one for one in read_transcripts(run) if one.model == "person"]
    assert one.recording.revision == 2
    assert generations(run)[-1].num_by_change == {"corrected": 1}
    assert [(word.start_s, word.end_s) for word in one.words] == [
        *((1.0, 1.5), (8.0, 8.24), (8.24, 8.48), (11.0, 11.5), (18.0, 18.48)),
    ]


def test_no_machine_replaces_a_correction(run, tmp_path):
    corrected(tmp_path, {"uri": A.uri, "text": "right"}, by="Ada")
    path = plan(run, tmp_path, model="large", revision=Revision())
    assert index_plan(path).asked == {A.recording_id: 1, B.recording_id: 3}
    assert dict(generations(run)[-1].num_by_change) == {"asked": 1}
    publish_transcripts(run, [stitch(heard_all(replace(B, revision=3), 2))])
    assert texts(run)["a"] == "right"


def test_the_same_correction_again_changes_nothing(run, tmp_path, capsys):
    for _ in range(2):
        corrected(tmp_path, {"id": A.recording_id, "text": "right"})
    assert "0 transcripts were corrected, 1 said the same" in capsys.readouterr().out
    assert len(generations(run)) == 2


def test_words_with_times_are_taken_as_they_are(run, tmp_path):
    words = [{"text": "right", "start_s": 3.0, "end_s": 4.0}]
    corrected(tmp_path, {"id": A.recording_id, "words": words})
    assert [one.words for one in read_transcripts(run) if one.model == "person"] == [
        (Word("right", 3.0, 4.0, 1.0),)
    ]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"id": "nobody", "text": "x"}, "row 2: nobody names no transcript of this run"),
        ({"id": "nobody"}, "expected a column text or words"),
        ({"text": "x"}, "expected a column id or uri"),
    ],
)
def test_a_wrong_correction_is_one_sentence_and_changes_nothing(run, tmp_path, row, sentence):
    with pytest.raises(ValueError, match=sentence):
        corrected(tmp_path, {"id": A.recording_id, "text": "right"}, row)
    assert len(generations(run)) == 1
    assert texts(run)["a"] == "word0 end word1 end"


def test_words_without_neighbours_share_the_whole_recording():
    silent = replace(stitch([heard(one) for one in shards(A, 1)]), words=())
    assert list(retimed(["a", "b"], silent)) == [
        Word("a", 0.0, 5.0, confidence=1.0),
        Word("b", 5.0, 10.0, confidence=1.0),
    ]


def test_diff_shows_the_words_that_a_revision_changed(run, tmp_path, capsys):
    corrected(tmp_path, {"id": A.recording_id, "text": "word0 fin extra word1"})
    capsys.readouterr()
    assert diff(DiffConfig(run=str(tmp_path / "out"))) == 0
    said = capsys.readouterr().out
    assert "1 of 1 transcripts that were replaced have other words, in 2 places" in said
    assert "8.0 s  end -> fin extra" in said
    assert "18.0 s  end -> (nothing)" in said
    (row,) = pq.read_table(tmp_path / "out/_run/diff.parquet").to_pylist()
    assert (row["revision_before"], row["revision"], row["model"]) == (1, 2, "person ")
    assert [(one["kind"], one["before"], one["after"]) for one in row["changes"]] == [
        ("replaced", "end", "fin extra"),
        ("removed", "end", ""),
    ]
    assert "<ins>fin extra</ins>" in (tmp_path / "out/_run/diff.html").read_text()


def test_diff_sees_old_rows_that_are_still_in_the_table(run, tmp_path, capsys):
    plan(run, tmp_path, model="large", revision=Revision())
    new = replace(stitch(heard_all(replace(B, revision=2), 1)), model="large")
    publish_transcripts(run, [new])
    diff(DiffConfig(run=str(tmp_path / "out")))
    assert "word1 end -> (nothing)" in capsys.readouterr().out


def test_without_a_revision_there_is_nothing_to_compare(run, tmp_path):
    with pytest.raises(ValueError, match="no transcript has been replaced yet"):
        diff(DiffConfig(run=str(tmp_path / "out")))
