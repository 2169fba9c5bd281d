"""Whatever is killed and whenever, readers see every recording once, whole, and the same."""

import gc
import itertools
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from nightscribe import publishing
from nightscribe.planning import PlanningConfig, plan
from nightscribe.publishing import Publisher
from nightscribe.storage import id_set, parts
from nightscribe.storage.lease import LeaseHeldError, LeaseLostError
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_failures
from nightscribe.storage.tables import files, read_rows
from tests import made_up_run
from tests.storage.dying import survives
from tests.storage.records import failure, heard, heard_all, recording, shards

ROOT = Path(__file__).parent.parent
NUM_KILLS = 4
MAX_BYTES_EACH, MAX_BYTES_OF_OPEN = 100, 2048


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The tables of a run that nothing disturbs."""
    store = open_store(str(tmp_path_factory.mktemp("undisturbed")), S3Config())
    made_up_run.run(store, seed=0)
    return tables(store)


def publisher(store, duplicates=None, check=lambda: None, asked=None):
    return Publisher(store, check, duplicates or {}, examine=lambda said: said, asked=asked)


def rows(store, folder):
    found = [read_rows(store, entry.key) for entry in files(store, folder)]
    order = ["recording_id"] + (["shard"] if folder == "failures" else [])
    if not found:
        return []
    return pa.concat_tables(found).sort_by([(name, "ascending") for name in order]).to_pylist()


def tables(store):
    return {folder: rows(store, folder) for folder in ("transcripts", "failures")}


def planned(*recordings):
    return list(plan(recordings, lambda one: one.version, PlanningConfig()))


def test_the_undisturbed_run_is_complete(expected):
    archive = made_up_run.archive()
    done = {row["uri"] for row in expected["transcripts"] + expected["failures"]}
    assert done == {one.uri for one in archive}
    ids = [row["recording_id"] for row in expected["transcripts"]]
    assert len(ids) == len(set(ids))
    assert any(row["duplicate_of"] for row in expected["transcripts"])
    assert any(row["channel"] == 1 for row in expected["transcripts"])
    assert any(row["status"] == "partial" for row in expected["transcripts"])


def test_killed_at_any_moment_the_same_command_ends_with_the_same_tables(folder, store, expected):
    chance = random.Random(folder)
    for attempt in range(NUM_KILLS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.made_up_run", folder, str(attempt)],
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        with process:
            wait_for_lease(store)
            time.sleep(chance.uniform(0.0, 1.0))
            process.kill()
            assert b"Error" not in process.stderr.read()
        seen = tables(store)
        for name, table in expected.items():
            assert all(row in table for row in seen[name])
        let_lease_run_out(store)
    made_up_run.run(store, seed=99)
    assert tables(store) == expected


def wait_for_lease(store):
    """Until the process that was started writes, so that the kill meets it at work."""
    deadline_s = time.monotonic() + 60
    while not any(store.entries("_run/lease/")):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def let_lease_run_out(store):
    """As if its life had passed, which the tests of leases wait for."""
    for entry in store.entries("_run/lease/"):
        store.delete(entry.key)


def test_readers_never_fail_never_lose_a_row_and_never_see_one_twice(store, expected):
    done, seen = threading.Event(), []

    def read():
        while not done.is_set():
            seen.append([row["recording_id"] for row in rows(store, "transcripts")])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        made_up_run.run(store, seed=5)
    finally:
        done.set()
        reader.join()
    assert not reader.is_alive()
    assert len(seen) > 2
    for earlier, later in itertools.pairwise(seen):
        assert set(earlier) <= set(later)
        assert len(later) == len(set(later))
    assert tables(store) == expected


def test_a_recording_is_visible_with_its_last_shard_and_not_before(store):
    one = publisher(store)
    first, second, last = heard_all(recording(), 3)
    one.receive(parts.commit(store, [last]))
    one.receive(parts.commit(store, [first]))
    assert not one.publish()
    one.receive(parts.commit(store, [second]))
    (transcript,) = one.publish().transcripts
    assert (transcript.recording_id, transcript.status) == (recording().recording_id, "ok")
    texts = [row["text"] for row in rows(store, "transcripts")]
    assert texts == ["word0 end word1 end word2 end"]


def test_what_is_committed_is_not_done_again(store):
    whole, half, split, new = (recording(name) for name in ("whole", "half", "split", "new"))
    left, right = split.split(2)
    parts.commit(store, heard_all(whole, 2))
    parts.commit(store, [heard(shards(half, 3)[n]) for n in (0, 2)])
    parts.commit(store, [*heard_all(left, 1), heard(shards(right, 2)[1])])
    one = publisher(store)
    one.restore()
    one.publish()
    todo = {
        t.recording: t.done_ids
        for t in made_up_run.remaining(one, planned(whole, half, split, new))
    }
    assert todo == {
        half: {f"{half.recording_id}/00000", f"{half.recording_id}/00002"},
        split: {left.recording_id, f"{right.recording_id}/00001"},
        new: set(),
    }


def test_a_split_recording_is_done_with_its_last_channel(store):
    left, right = recording().split(2)
    for channel, remaining in ((left, 1), (right, 0)):
        parts.commit(store, heard_all(channel, 1))
        one = publisher(store)
        one.restore()
        one.publish()
        assert len(list(made_up_run.remaining(one, planned(recording())))) == remaining


def test_a_duplicate_gets_the_words_of_its_original_and_is_never_done(store):
    original, copy = recording("a"), recording("b", version="v-a", language="is")
    one = publisher(store, {original.recording_id: [copy]})
    assert [t.recording for t in made_up_run.remaining(one, planned(original, copy))] == [original]
    one.receive(parts.commit(store, heard_all(original, 1)))
    one.publish()
    found = {row["uri"]: row for row in rows(store, "transcripts")}
    assert found[copy.uri]["words"] == found[original.uri]["words"]
    assert found[copy.uri]["duplicate_of"] == original.recording_id
    assert found[copy.uri]["language"] == "is"
    assert found[original.uri]["duplicate_of"] is None


def test_a_failed_recording_is_one_failure_for_itself_and_its_duplicates(store):
    original, copy = recording("a"), recording("b", version="v-a")
    one = publisher(store, {original.recording_id: [copy]})
    one.receive(parts.commit(store, [failure(original)]))
    seen = one.publish()
    assert [f.recording for f in seen.failures] == [original, copy]
    assert list(made_up_run.remaining(one, planned(original, copy))) == []


def test_a_recording_of_which_every_shard_failed_is_one_failure(store):
    lost = recording()
    one = publisher(store)
    one.receive(parts.commit(store, [failure(lost, shard) for shard in shards(lost, 3)]))
    (only,) = one.publish().failures
    assert only.shard is None
    assert only.detail == "all 3 shards failed: there is no audio in it"
    assert rows(store, "transcripts") == []


def test_a_failed_shard_is_published_once_even_if_the_run_dies_before_its_transcript(store):
    holed = recording()
    lost = failure(holed, shards(holed, 2)[1])
    parts.commit(store, [heard(shards(holed, 2)[0]), lost, failure(recording("other"))])
    publish_failures(store, [lost])  # and then it died
    one = publisher(store)
    one.restore()
    assert [t.status for t in one.publish().transcripts] == ["partial"]
    assert len(rows(store, "failures")) == 2


def test_a_publisher_goes_on_with_its_share_and_knows_nothing_of_others(store):
    ours, others = recording("ours"), recording("others")
    copies = {one.recording_id: [recording(f"copy-{one.version}")] for one in (ours, others)}
    for one in (ours, others):
        lost = failure(one, shards(one, 2)[1])
        parts.commit(store, [heard(shards(one, 2)[0]), lost])
        publish_failures(store, [lost])  # and then it died
    asked = {ours.recording_id: 1, others.recording_id: 1}
    whole = publisher(store, copies, asked=asked)
    whole.restore()
    share = whole.share(lambda name: name == ours.recording_id)
    assert set(share.committed) == set(share.names_of_source) == {ours.recording_id}
    assert set(share.duplicates) == set(share.asked) == {ours.recording_id}
    assert share.published_failed_shards == {(ours.recording_id, 1)}
    part = publisher(store)
    part.take_share(share)
    (copy,) = copies[ours.recording_id]
    assert part.publish().transcripts
    uris = {row["uri"] for row in rows(store, "transcripts")}
    assert uris == {ours.uri, copy.uri}
    told_ids = [row["recording_id"] for row in rows(store, "failures")]
    assert told_ids.count(ours.recording_id) == 1  # that of our shard is not told again


def test_killed_before_any_change_a_visible_transcript_has_its_failures_beside_it(
    folder, monkeypatch
):
    monkeypatch.setattr(publishing, "MAX_RECORDINGS_PER_FILE", 2)
    for num_changes in itertools.count():
        store = open_store(f"{folder}/{num_changes}", S3Config())
        holed = [recording(name) for name in "abc"]
        for one in holed:
            first, lost = shards(one, 2)
            parts.commit(store, [heard(first), failure(one, lost)])
        ended = survives(publish_all, store, num_changes)
        assert partial(store) <= told(store)
        publish_all(store)
        assert len(rows(store, "transcripts")) == len(rows(store, "failures")) == len(holed)
        assert partial(store) == told(store)
        if ended:
            break
    assert num_changes == 2 * 2  # two files of each table


def publish_all(store):
    one = publisher(store)
    one.restore()
    one.publish()


def partial(store):
    found = rows(store, "transcripts")
    return {row["recording_id"] for row in found if row["status"] == "partial"}


def told(store):
    return {row["recording_id"] for row in rows(store, "failures")}


def test_two_answers_for_one_shard_count_once(store):
    (shard,) = shards(recording(), 1)
    one = publisher(store)
    receipts = parts.commit(store, [heard(shard, "one"), *heard_all(recording("b"), 1)])
    receipts += parts.commit(store, [heard(shard, "two")])
    one.receive(receipts)
    one.publish()
    one.receive(receipts)
    assert not one.publish()
    assert len(rows(store, "transcripts")) == 2


def test_nothing_is_published_without_the_lease(store):
    def lost():
        raise LeaseLostError

    one = publisher(store, check=lost)
    one.receive(parts.commit(store, heard_all(recording(), 1)))
    with pytest.raises(LeaseLostError):
        one.publish()
    assert rows(store, "transcripts") == []


def test_two_runs_at_once_are_refused(store):
    with made_up_run.take(store, made_up_run.LEASE), pytest.raises(LeaseHeldError):
        made_up_run.run(store, seed=0)


def test_parts_of_published_recordings_are_merged(store, monkeypatch):
    monkeypatch.setattr(publishing, "MERGED_PARTS", 5)
    one = publisher(store)
    waiting = heard_all(recording("waiting"), 2)
    for n in range(12):
        one.receive(parts.commit(store, heard_all(recording(f"{n}"), 1)))
    one.receive(parts.commit(store, waiting[:1]))
    one.publish()
    assert len(list(files(store, parts.FOLDER))) == 2 + 2 + 1
    assert len(list(parts.receipts(store))) == 13
    again = publisher(store)
    again.restore()
    again.receive(parts.commit(store, waiting[1:]))
    (transcript,) = again.publish().transcripts
    assert transcript.recording_id == recording("waiting").recording_id
    assert len(rows(store, "transcripts")) == 13


def test_a_part_that_an_unfinished_recording_needs_is_not_merged(store, monkeypatch):
    """The publisher that reads it later knows it by its name."""
    monkeypatch.setattr(publishing, "MERGED_PARTS", 3)
    one = publisher(store)
    waiting = heard_all(recording("waiting"), 2)
    for n in range(3):
        also = waiting[:1] if n == 0 else []
        one.receive(parts.commit(store, [*heard_all(recording(f"{n}"), 1), *also]))
    one.publish()
    one.receive(parts.commit(store, waiting[1:]))
    (transcript,) = one.publish().transcripts
    assert transcript.recording_id == recording("waiting").recording_id


def test_a_part_with_several_shards_of_a_recording_waits_for_it_once(store, monkeypatch):
    monkeypatch.setattr(publishing, "MERGED_PARTS", 3)
    one = publisher(store)
    for n in range(3):
        receipts = parts.commit(store, heard_all(recording(f"{n}"), 2))
        one.receive(receipts)
        one.receive(receipts)
    one.publish()
    assert len(list(files(store, parts.FOLDER))) == 1


def test_many_recordings_become_several_files_of_bounded_size(store, monkeypatch):
    monkeypatch.setattr(publishing, "MAX_RECORDINGS_PER_FILE", 4)
    one = publisher(store)
    one.receive(
        parts.commit(store, [said for n in range(10) for said in heard_all(recording(f"{n}"), 1)])
    )
    assert len(one.publish().transcripts) == 10
    assert len(list(files(store, "transcripts"))) == 3


def test_of_what_readers_see_hardly_more_than_its_id_is_remembered(store, monkeypatch):
    monkeypatch.setattr(id_set, "MIN_RECENT", 64)
    shown, numbers = publisher(store), itertools.count()

    def show_a_hundred():
        some = [recording(f"r{next(numbers)}") for _ in range(100)]
        shown.receive(parts.commit(store, [heard_all(one, 1)[0] for one in some]))
        shown.publish()

    show_a_hundred()
    tracemalloc.start()
    for _ in range(10):
        show_a_hundred()
    gc.collect()
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes / 1000 < MAX_BYTES_EACH


def test_of_a_recording_that_is_not_complete_little_is_remembered(store):
    one, of_each = publisher(store), []
    for number in range(1000):
        first, *_ = shards(recording(f"open-{number}"), 40)
        of_each.append(
            parts.Receipt(
                part=f"part-{number // 100}",
                recording_id=first.recording.recording_id,
                shard_index=0,
                is_last=False,
            )
        )
    tracemalloc.start()
    for index in range(20):
        one.receive(replace(receipt, shard_index=index) for receipt in of_each)
    gc.collect()
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes / 1000 < MAX_BYTES_OF_OPEN
