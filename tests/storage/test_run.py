"""The same command resumes a run; another command is refused with what differs."""

import itertools
import json
from dataclasses import replace

import pytest

from nightscribe.records import PlannedRecording
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.run import (
    PLAN_KEY,
    RUN_KEY,
    AnotherRunError,
    begin,
    index_plan,
    read_plan,
    stored_run,
    write_plan,
)
from tests.storage.dying import survives
from tests.storage.records import recording

SETTINGS = {"model": "tiny", "model_revision": "r1", "shard.max_s": 30.0, "channels": "mix"}


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


def planned(names, window_size=3, **change):
    return [
        PlannedRecording(
            recording=recording(name, **change), window=n // window_size, estimated_s=1.0
        )
        for n, name in enumerate(names)
    ]


def plan_file(tmp_path, recordings):
    path = tmp_path / "plan.parquet"
    write_plan(recordings, path)
    return path


def test_a_new_output_gets_a_run_and_its_plan(store, tmp_path):
    recordings = planned("abcdefgh", language="is", text="said", channel=1)
    assert stored_run(store) is None
    path = plan_file(tmp_path, recordings)
    run = begin(store, path, SETTINGS)
    assert stored_run(store) == run
    assert store.read(PLAN_KEY) == path.read_bytes()
    assert list(read_plan(path)) == recordings


def test_a_run_that_can_be_read_has_its_plan_whenever_its_beginning_was_killed(folder, tmp_path):
    path = plan_file(tmp_path, planned("abc"))
    for num_changes in itertools.count():
        store = open_store(f"{folder}/{num_changes}", S3Config())
        began = survives(lambda it: begin(it, path, SETTINGS), store, num_changes)
        assert stored_run(store) is None or store.read(PLAN_KEY) == path.read_bytes()
        begin(store, path, SETTINGS)
        assert store.read(PLAN_KEY) == path.read_bytes()
        if began:
            break
    assert num_changes == 4  # two empty tables, the plan, the run


def test_the_same_command_resumes_the_run(store, tmp_path):
    path = plan_file(tmp_path, planned("abc"))
    first = begin(store, path, SETTINGS)
    second = begin(store, path, dict(reversed(SETTINGS.items())))
    assert first.run_id == second.run_id


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "large"}, "model was 'tiny' and is now 'large'"),
        ({"shard.max_s": 60.0}, r"shard.max_s was 30\.0 and is now 60\.0"),
        ({"tokens": True}, "tokens was None and is now True"),
    ],
)
def test_other_settings_are_another_run_and_named(store, tmp_path, change, sentence):
    path = plan_file(tmp_path, planned("abc"))
    begin(store, path, SETTINGS)
    with pytest.raises(AnotherRunError, match=sentence):
        begin(store, path, SETTINGS | change)
    assert dict(stored_run(store).settings) == SETTINGS


def test_other_recordings_are_another_run_and_named(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    with pytest.raises(AnotherRunError, match=r"1 are gone \(s3://archive/c\.mp3\) and 2 are new"):
        begin(store, plan_file(tmp_path, planned("abde")), SETTINGS)


def test_a_changed_object_is_another_run_and_named(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("ab")), SETTINGS)
    now = planned("a") + planned("b", version="new")
    with pytest.raises(AnotherRunError, match=r"1 changed \(s3://archive/b\.mp3\)"):
        begin(store, plan_file(tmp_path, now), SETTINGS)


def test_another_order_is_another_run(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    with pytest.raises(AnotherRunError, match="ordered differently"):
        begin(store, plan_file(tmp_path, planned("cba")), SETTINGS)


def test_a_run_of_another_schema_is_left_alone(store, tmp_path):
    path = plan_file(tmp_path, planned("abc"))
    begin(store, path, SETTINGS)
    document = json.loads(store.read(RUN_KEY)) | {"schema_version": 0}
    store.write(RUN_KEY, json.dumps(document).encode())
    with pytest.raises(AnotherRunError, match="written with version 0 of the schema"):
        begin(store, path, SETTINGS)


def test_the_same_plan_is_the_same_bytes(tmp_path):
    recordings = planned("abcdefgh")
    first = plan_file(tmp_path, recordings).read_bytes()
    assert plan_file(tmp_path, iter(recordings)).read_bytes() == first


def test_the_index_of_a_plan_knows_originals_in_order_and_duplicates_by_original(tmp_path):
    first, second, third = planned("abc")
    copies = [replace(one, duplicate_of=first.recording.recording_id) for one in planned("de")]
    index = index_plan(plan_file(tmp_path, [first, copies[0], second, copies[1], third]))
    assert index.num_recordings == 5
    assert index.duplicates == {first.recording.recording_id: [copy.recording for copy in copies]}
    assert list(index.originals()) == [
        (one.recording.recording_id, 1.0) for one in (first, second, third)
    ]
