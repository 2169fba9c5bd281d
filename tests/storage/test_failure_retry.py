"""Transient failures are removed, others stay, and a kill in between loses nothing else."""

import itertools

import pytest

from nightscribe.audio.decode_outcome import REASONS
from nightscribe.publishing import Publisher
from nightscribe.storage import parts
from nightscribe.storage.errors import SENTENCES
from nightscribe.storage.failure_retry import remove_failures
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import (
    publish_failures,
    published_failures,
    published_transcripts,
    read_failures,
)
from tests.storage.dying import survives
from tests.storage.records import failure, heard, heard_all, recording, shards

# The file itself, or its place, is at fault.
LASTING_FETCH = {"bad_location", "changed", "not_found", "outside"}
PASSING_DECODE = {"killed", "timeout", "unexpected"}
DECODE = {*REASONS.values(), "damaged", "empty", "too_long", "truncated", *PASSING_DECODE}


def publish(store, outcomes):
    publisher = Publisher(store, lambda: None, {}, examine=lambda said: said)
    publisher.receive(parts.commit(store, outcomes))
    publisher.publish()


@pytest.mark.parametrize(
    ("stage", "reasons", "passing"),
    [
        ("fetch", set(SENTENCES), set(SENTENCES) - LASTING_FETCH),
        ("decode", DECODE, PASSING_DECODE),
        ("transcribe", {"not_transcribed", "worker_killed"}, {"not_transcribed"}),
    ],
)
def test_a_failure_that_may_pass_is_retried_and_a_fault_of_the_file_is_not(
    tmp_path, stage, reasons, passing
):
    store = open_store(str(tmp_path), S3Config())
    publish(store, [failure(recording(one), stage=stage, reason=one) for one in sorted(reasons)])
    assert remove_failures(store, "passing", {}) == len(passing)
    assert {one.reason for one in read_failures(store)} == reasons - passing
    (part,) = parts.small_parts(store)
    assert {one.reason for one in parts.outcomes_of(store, part)} == reasons - passing


def test_killed_before_any_change_nothing_else_is_lost_and_the_rest_is_removed_next_time(folder):
    whole, denied, garbled, holed = (
        recording(name) for name in ("whole", "denied", "garbled", "holed")
    )
    first, lost = shards(holed, 2)
    outcomes = [
        *heard_all(whole, 2),
        failure(denied, stage="fetch", reason="denied"),
        failure(garbled),
        heard(first),
        failure(holed, lost, stage="transcribe", reason="not_transcribed"),
    ]
    kept = [(whole.recording_id, 0), (whole.recording_id, 1), (holed.recording_id, 0)]
    kept = {*kept, (garbled.recording_id, None)}
    for num_changes in itertools.count():
        store = open_store(f"{folder}/{num_changes}", S3Config())
        publish(store, outcomes)
        asked = {holed.recording_id: 2}
        ended = survives(lambda it: remove_failures(it, "passing", asked), store, num_changes)  # noqa: B023
        assert kept <= set(committed(store))
        assert {whole.recording_id, holed.recording_id} == {*shown(published_transcripts(store))}
        assert garbled.recording_id in shown(published_failures(store))
        remove_failures(store, "passing", asked)
        assert sorted(committed(store), key=str) == sorted(kept, key=str)
        assert {*shown(published_failures(store))} == {garbled.recording_id, holed.recording_id}
        if ended:
            break
    assert num_changes == 2 * 2  # each of two tables is written anew, then the old one is removed


def committed(store):
    return [(one.recording_id, one.shard_index) for one in parts.receipts(store)]


def shown(rows):
    return [row.recording_id for row in rows]


def test_an_empty_table_of_failures_has_none_to_retry(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    publish_failures(store, [])
    assert [remove_failures(store, which, {}) for which in ("passing", "all", "none")] == [0, 0, 0]
