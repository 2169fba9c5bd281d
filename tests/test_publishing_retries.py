"""Which failures of earlier attempts the next attempt retries."""

from dataclasses import replace

import pytest

from nightscribe.storage import failure_retry, parts
from nightscribe.storage.locations import S3Config, open_store
from tests import made_up_run
from tests.storage.records import failure, heard, heard_all, recording, shards
from tests.test_publishing import planned, publisher, rows, tables


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


def test_what_could_not_be_fetched_for_a_passing_reason_is_tried_again_and_nothing_else(store):
    denied, broken, holed = (recording(name) for name in ("denied", "broken", "holed"))
    one = publisher(store)
    one.receive(
        parts.commit(
            store,
            [
                failure(denied, stage="fetch", reason="denied"),
                failure(broken),
                heard(shards(holed, 2)[0]),
                failure(holed, shards(holed, 2)[1]),
            ],
        )
    )
    one.publish()
    again = publisher(store)
    again.restore()
    assert not again.publish()
    (todo,) = made_up_run.remaining(again, planned(denied, broken, holed))
    assert (todo.recording, todo.done_ids) == (denied, frozenset())
    assert {row["uri"] for row in rows(store, "failures")} == {broken.uri, holed.uri}
    again.receive(parts.commit(store, heard_all(denied, 1)))
    again.publish()
    last = publisher(store)
    last.restore()
    assert list(made_up_run.remaining(last, planned(denied, broken, holed))) == []
    assert len(rows(store, "transcripts")) == 2


def test_a_failure_that_stays_is_not_tried_again(store):
    gone = recording()
    one = publisher(store)
    one.receive(parts.commit(store, [failure(gone, stage="fetch", reason="not_found")]))
    one.publish()
    again = publisher(store)
    again.restore()
    assert list(made_up_run.remaining(again, planned(gone))) == []


def test_a_failed_shard_is_retried_and_until_then_readers_keep_the_rest(store):
    original, copy = recording("a"), recording("b", version="v-a")
    first, lost, last = shards(original, 3)
    one = publisher(store, {original.recording_id: [copy]})
    broken = failure(original, lost, stage="transcribe", reason="not_transcribed")
    one.receive(parts.commit(store, [heard(first), broken, heard(last)]))
    assert [t.status for t in one.publish().transcripts] == ["partial"] * 2
    before = tables(store)
    asked = {name: 2 for name in (original.recording_id, copy.recording_id)}
    again = publisher(store, {original.recording_id: [replace(copy, revision=2)]}, asked=asked)
    again.restore()
    assert not again.publish()
    (todo,) = made_up_run.remaining(again, planned(original, copy))
    assert todo.done_ids == {first.shard_id, last.shard_id}
    assert tables(store) == before
    again.receive(parts.commit(store, [heard(lost)]))
    again.publish()
    found = [(row["status"], row["revision"]) for row in rows(store, "transcripts")]
    assert sorted(found) == [("ok", 2), ("ok", 2), ("partial", 1), ("partial", 1)]


def test_which_failures_are_tried_again_is_the_users_choice(store):
    names = ("whole", "garbled", "killer", "busy")
    whole, garbled, killer, busy = found = [recording(name) for name in names]
    poisoned = failure(killer, shards(killer, 2)[1], stage="transcribe", reason="worker_killed")
    committed = [
        *heard_all(whole, 2),
        failure(garbled),
        heard(shards(killer, 2)[0]),
        poisoned,
        failure(busy, stage="fetch", reason="busy"),
    ]
    one = publisher(store)
    one.receive(parts.commit(store, committed))
    one.publish()
    for retry, remaining in (("none", []), ("passing", [busy]), ("all", [garbled, killer, busy])):
        holed = failure_retry.holed_recordings(store, retry)
        assert set(holed) == {one.recording_id for one in remaining if one is killer}
        again = publisher(store, asked=dict.fromkeys(holed, 2))
        again.restore(retry)
        todo = [one.recording for one in made_up_run.remaining(again, planned(*found))]
        assert sorted(todo, key=found.index) == remaining
    assert {row["uri"] for row in rows(store, "transcripts")} == {whole.uri, killer.uri}
