"""The same command resumes a run or adds what is new; other settings are refused and named."""

import itertools
import json
from dataclasses import replace

import pytest

from nightscribe.records import PlannedRecording
from nightscribe.stitching import stitch
from nightscribe.storage.current_plan import read_current
from nightscribe.storage.errors import StorageError
from nightscribe.storage.generations import generations
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import commit, receipts
from nightscribe.storage.plan_changes import Revision
from nightscribe.storage.result_tables import publish_failures, publish_transcripts
from nightscribe.storage.run import (
    RUN_KEY,
    AnotherRunError,
    Night,
    begin,
    check_writable,
    index_plan,
    read_plan,
    stored_run,
    write_plan,
)
from tests.storage.dying import survives
from tests.storage.records import failure, heard, heard_all, recording, shards

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


def listed(path):
    """Which recordings the plan holds, and the revision of each."""
    return {one.recording.uri[-5]: one.recording.revision for one in read_plan(path)}


def changes(store):
    return [dict(one.num_by_change) for one in generations(store)]


def test_a_new_output_gets_a_run_and_its_plan(store, tmp_path):
    recordings = planned("abcdefgh", language="is", text="said", channel=1)
    assert stored_run(store) is None
    path = plan_file(tmp_path, recordings)
    run = begin(store, path, SETTINGS)
    assert stored_run(store) == run
    assert (run.generation, run.revision) == (1, 1)
    assert list(read_plan(path)) == recordings


def test_a_run_that_can_be_read_has_its_plan_whenever_its_beginning_was_killed(folder, tmp_path):
    for num_changes in itertools.count():
        store = open_store(f"{folder}/{num_changes}", S3Config())
        path = plan_file(tmp_path, planned("abc"))
        began = survives(lambda it: begin(it, path, SETTINGS), store, num_changes)  # noqa: B023
        if stored_run(store) is not None:
            assert read_current(store, tmp_path).num_recordings == 3
        path = plan_file(tmp_path, planned("abc"))
        begin(store, path, SETTINGS)
        assert listed(path) == {"a": 1, "b": 1, "c": 1}
        assert len(generations(store)) == 1
        if began:
            break
    assert num_changes == 5  # two empty tables, the rows, their document, the run


def test_whether_an_output_can_be_written_is_tried_without_a_trace(store):
    check_writable(store)
    assert not list(store.entries())


def test_the_same_command_resumes_the_run(store, tmp_path):
    first = begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    second = begin(store, plan_file(tmp_path, planned("abc")), dict(reversed(SETTINGS.items())))
    assert first == second
    assert len(generations(store)) == 1


def test_another_order_is_the_same_run(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    begin(store, plan_file(tmp_path, planned("cba")), SETTINGS)
    assert len(generations(store)) == 1


def test_new_recordings_are_added_and_the_run_keeps_its_name(store, tmp_path):
    first = begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    path = plan_file(tmp_path, planned("abcde"))
    second = begin(store, path, SETTINGS)
    assert listed(path) == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}
    assert (second.run_id, second.generation, second.revision) == (first.run_id, 2, 1)
    assert changes(store)[1] == {"added": 2}


def test_generations_are_never_changed(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    before = {entry.key: store.read(entry.key) for entry in store.entries("_run/plan/")}
    begin(store, plan_file(tmp_path, planned("bd") + planned("a", version="new")), SETTINGS)
    assert before.items() <= {e.key: store.read(e.key) for e in store.entries("_run/plan/")}.items()


def test_a_changed_file_replaces_its_recording(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("ab")), SETTINGS)
    path = plan_file(tmp_path, planned("a") + planned("b", version="new"))
    begin(store, path, SETTINGS)
    assert listed(path) == {"a": 1, "b": 2}
    assert changes(store)[1] == {"changed": 1}
    assert generations(store)[1].num_recordings == 2


def test_a_file_that_has_its_old_bytes_again_replaces_the_new_ones(store, tmp_path):
    for version in ("v-b", "new", "v-b"):
        path = plan_file(tmp_path, planned("a") + planned("b", version=version))
        begin(store, path, SETTINGS)
    assert listed(path) == {"a": 1, "b": 3}
    assert changes(store)[1:] == [{"changed": 1}, {"changed": 1}]


def test_missing_files_leave_the_plan_and_come_back_as_they_were(store, tmp_path):
    for names in ("abc", "ab", "ab", "abc"):
        path = plan_file(tmp_path, planned(names))
        begin(store, path, SETTINGS)
    assert changes(store)[1:] == [{"gone": 1}, {"back": 1}]
    assert listed(path) == {"a": 1, "b": 1, "c": 1}  # the transcript that was kept is the right one


def test_dropped_files_are_asked_for_again_when_they_come_back(store, tmp_path):
    for names in ("abc", "ab", "abc"):
        path = plan_file(tmp_path, planned(names))
        begin(store, path, SETTINGS, Night(missing="drop"))
    assert changes(store)[1:] == [{"dropped": 1}, {"back": 1}]
    assert listed(path) == {"a": 1, "b": 1, "c": 3}


def test_what_was_kept_can_be_dropped_later(store, tmp_path):
    for missing, names in (("keep", "abc"), ("keep", "ab"), ("drop", "ab"), ("drop", "ab")):
        begin(store, plan_file(tmp_path, planned(names)), SETTINGS, Night(missing=missing))
    assert changes(store)[1:] == [{"gone": 1}, {"dropped": 1}]


def test_a_lost_mount_does_not_drop_the_archive(store, tmp_path):
    names = "abcdefghijkl"
    begin(store, plan_file(tmp_path, planned(names)), SETTINGS)
    with pytest.raises(AnotherRunError, match=r"of 11 of 12 recordings.*max_dropped_share=1"):
        begin(store, plan_file(tmp_path, planned("a")), SETTINGS, Night(missing="drop"))
    assert len(generations(store)) == 1
    drop = Night(missing="drop", max_dropped_share=1.0)
    begin(store, plan_file(tmp_path, planned("a")), SETTINGS, drop)
    assert changes(store)[1] == {"dropped": 11}


def test_only_what_is_new_needs_to_be_planned(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abcd")), SETTINGS)
    before = read_current(store, tmp_path)
    found = [recording(name) for name in "abd"] + [recording("e"), recording("c", version="new")]
    new = list(before.unseen(found))
    assert [one.uri[-5] for one in new] == ["e", "c"]
    path = plan_file(
        tmp_path, [PlannedRecording(recording=r, window=0, estimated_s=1) for r in new]
    )
    begin(store, path, SETTINGS, Night(compared=before))
    assert listed(path) == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 2}
    assert changes(store)[1] == {"added": 1, "changed": 1}


def test_a_listing_that_was_compared_with_an_older_plan_is_refused(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("ab")), SETTINGS)
    before = read_current(store, tmp_path)
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    list(before.unseen([recording("a"), recording("b")]))
    with pytest.raises(AnotherRunError, match="added generation 2 to the plan meanwhile"):
        begin(store, plan_file(tmp_path, []), SETTINGS, Night(compared=before))


def test_rows_that_were_damaged_are_not_believed(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("ab")), SETTINGS)
    store.write(generations(store)[0].rows_key, b"something else")
    with pytest.raises(StorageError, match="other bytes than were written"):
        begin(store, plan_file(tmp_path, planned("ab")), SETTINGS)


def test_a_copy_whose_original_left_is_transcribed_itself(store, tmp_path):
    first, second = planned("ab")
    second = replace(second, duplicate_of=first.recording.recording_id)
    begin(store, plan_file(tmp_path, [first, second]), SETTINGS)
    path = plan_file(tmp_path, [second])
    begin(store, path, SETTINGS)
    assert [one.duplicate_of for one in read_plan(path)] == [None]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "large"}, "model was 'tiny' and is now 'large'"),
        ({"shard.max_s": 60.0}, r"shard.max_s was 30\.0 and is now 60\.0"),
        ({"tokens": True}, "tokens was None and is now True"),
    ],
)
def test_other_settings_are_another_run_and_named(store, tmp_path, change, sentence):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    with pytest.raises(AnotherRunError, match=f"{sentence}.*revise=true"):
        begin(store, plan_file(tmp_path, planned("abc")), SETTINGS | change)
    assert dict(stored_run(store).settings) == SETTINGS


def test_a_revision_asks_for_everything_again_once(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    revise = Night(revision=Revision())
    for _ in range(2):
        path = plan_file(tmp_path, planned("abc"))
        run = begin(store, path, SETTINGS | {"model": "large"}, revise)
        assert listed(path) == {"a": 2, "b": 2, "c": 2}
    assert (run.generation, run.revision) == (2, 2)
    assert changes(store)[1:] == [{"asked": 3}]
    path = plan_file(tmp_path, planned("abcd"))
    run = begin(store, path, SETTINGS | {"model": "large"})
    assert (run.generation, run.revision, listed(path)["d"]) == (3, 2, 3)


def test_a_revision_does_not_ask_for_what_is_missing_or_replaced_tonight(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    path = plan_file(tmp_path, planned("a") + planned("b", version="new"))
    begin(store, path, SETTINGS | {"model": "large"}, Night(revision=Revision()))
    assert listed(path) == {"a": 2, "b": 2}
    assert changes(store)[1] == {"changed": 1, "gone": 1, "asked": 1}


def test_shards_of_other_settings_do_not_count_whenever_a_revision_was_killed(folder, tmp_path):
    for num_changes in itertools.count():
        store = open_store(f"{folder}/{num_changes}", S3Config())
        begin(store, plan_file(tmp_path, planned("a")), SETTINGS)
        commit(store, [heard(shards(recording("a"), 2)[0])])

        def revise(it):
            asked = SETTINGS | {"model": "large"}
            return begin(it, plan_file(tmp_path, planned("a")), asked, Night(revision=Revision()))

        ended = survives(revise, store, num_changes)
        revise(store)
        assert not list(receipts(store))
        commit(store, [heard(shards(recording("a"), 2)[1])])
        revise(store)
        assert [one.shard_index for one in receipts(store)] == [1]
        if ended:
            break
    assert num_changes == 5  # rows, document, shards, mark, run


def test_a_revision_needs_a_reason(store, tmp_path):
    begin(store, plan_file(tmp_path, planned("abc")), SETTINGS)
    with pytest.raises(AnotherRunError, match="revise=true has no reason"):
        begin(store, plan_file(tmp_path, planned("abc")), SETTINGS, Night(revision=Revision()))


def test_a_revision_asks_for_what_a_condition_finds(store, tmp_path):
    good, bad, failed = (one.recording for one in planned("abc"))
    begin(store, plan_file(tmp_path, planned("abcd")), SETTINGS)
    publish_transcripts(store, [stitch(heard_all(good, 2))])
    publish_transcripts(store, [replace(stitch(heard_all(bad, 2)), status="partial")])
    publish_failures(store, [failure(failed)])
    path = plan_file(tmp_path, planned("abcd"))
    begin(store, path, SETTINGS, Night(revision=Revision("status != 'ok'")))
    assert listed(path) == {"a": 1, "b": 2, "c": 2, "d": 1}


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


def test_the_index_of_a_plan_knows_originals_in_order_and_duplicates_by_original(store, tmp_path):
    first, second, third = planned("abc")
    copies = [replace(one, duplicate_of=first.recording.recording_id) for one in planned("de")]
    path = plan_file(tmp_path, [first, copies[0], second, copies[1], third])
    begin(store, path, SETTINGS)
    index = index_plan(path)
    assert index.num_recordings == 5
    assert index.duplicates == {first.recording.recording_id: [copy.recording for copy in copies]}
    assert list(index.originals()) == [
        (one.recording.recording_id, 1.0) for one in (first, second, third)
    ]
