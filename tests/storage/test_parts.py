"""What is committed is committed whole, once, and comes back as it was."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.records import Recording, Shard, ShardTranscript, Span, Word
from nightscribe.storage import parts
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.rows import outcome_of, outcome_row
from nightscribe.storage.schema import PARTS_SCHEMA
from tests.storage.dying import survives
from tests.storage.records import failure, heard, heard_all, recording, shards

seconds = st.floats(0, 1e5)
texts = st.text(max_size=20)


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


@given(
    words=st.lists(st.tuples(texts, seconds, seconds, st.floats(0, 1, width=32))),
    spans=st.lists(st.tuples(seconds, seconds)),
    tokens=st.lists(st.tuples(st.integers(0, 2**31 - 1), st.floats(0, 1, width=32))),
    uri=st.text(min_size=1),
    language=st.none() | texts,
)
def test_any_shard_comes_back_as_it_was(words, spans, tokens, uri, language):
    (shard,) = shards(Recording(uri=uri, size_bytes=1, version="1", language=language), 1)
    said = ShardTranscript(
        shard=shard,
        words=tuple(Word(t, min(a, b), max(a, b), c) for t, a, b, c in words),
        model="m",
        model_revision="r",
        tokens=tuple(token for token, _ in tokens),
        token_confidences=tuple(confidence for _, confidence in tokens),
        speech=tuple(Span(*span) for span in spans),
    )
    table = pa.Table.from_pylist([outcome_row(said)], schema=PARTS_SCHEMA)
    assert outcome_of(table.to_pylist()[0]) == said


def test_what_is_committed_comes_back_sorted_with_a_receipt_each(store):
    one, other = recording("a"), recording("b", channel=1, text="so it is")
    outcomes = [*heard_all(one, 3), failure(one, shards(one, 3)[1]), failure(other)]
    given_receipts = parts.commit(store, outcomes)
    assert sorted(map(str, parts.receipts(store))) == sorted(map(str, given_receipts))
    (part,) = {receipt.part for receipt in given_receipts}
    found = parts.outcomes_of(store, part)
    assert {repr(outcome) for outcome in found} == {repr(outcome) for outcome in outcomes}
    assert parts.outcomes_of(store, part, [other.recording_id]) == [failure(other)]


def test_the_same_work_done_again_is_the_same_file(store):
    outcomes = heard_all(recording(), 4)
    (first,) = {receipt.part for receipt in parts.commit(store, outcomes)}
    before = store.read(first)
    (second,) = {receipt.part for receipt in parts.commit(store, outcomes[::-1])}
    assert first == second
    assert store.read(second) == before


def test_merged_parts_hold_every_outcome_once_as_the_first_part_has_it(store):
    shard_list = shards(recording(), 6)
    for chosen in ([0, 1], [2, 3], [3, 4], [5]):
        parts.commit(store, [heard(shard_list[n], f"as-{chosen[0]}") for n in chosen])
    parts.commit(store, [failure(recording("b"))])
    before = [o for e in store.entries(parts.FOLDER) for o in parts.outcomes_of(store, e.key)]
    keys = parts.small_parts(store)
    merged = parts.merge(store, keys)
    assert [entry.key for entry in store.entries(parts.FOLDER)] == [merged]
    found = parts.outcomes_of(store, merged)
    assert len(found) == 7
    first = {}
    for outcome in before:
        first.setdefault((outcome.recording, outcome.shard), outcome)
    assert {repr(outcome) for outcome in found} == {repr(o) for o in first.values()}


def test_merging_the_merged_loses_nothing(store):
    for n in range(3):
        parts.commit(store, heard_all(recording(f"r{n}"), 2))
    once = parts.merge(store, parts.small_parts(store))
    parts.commit(store, heard_all(recording("late"), 1))
    parts.merge(store, [once, *[k for k in parts.small_parts(store) if k != once]])
    assert len(list(parts.receipts(store))) == 7


def test_a_merge_killed_before_any_change_loses_no_outcome_and_can_be_repeated(folder):
    for num_changes in itertools.count():
        store = open_store(f"{folder}/{num_changes}", S3Config())
        for n in range(3):
            parts.commit(store, heard_all(recording(f"r{n}"), 2))
        committed = shard_ids(store)
        ended = survives(lambda it: parts.merge(it, parts.small_parts(it)), store, num_changes)
        assert set(shard_ids(store)) == set(committed)
        parts.merge(store, parts.small_parts(store))
        assert shard_ids(store) == committed
        if ended:
            break
    assert num_changes == 1 + 3


def shard_ids(store):
    return sorted((one.recording_id, one.shard_index) for one in parts.receipts(store))


def test_merging_a_single_part_keeps_it(store):
    (receipt,) = parts.commit(store, [failure(recording())])
    assert parts.merge(store, [receipt.part]) == receipt.part
    assert len(list(parts.receipts(store))) == 1


def test_a_shard_keeps_its_samples(store):
    shard = Shard(
        recording=recording(start_s=1.5, end_s=80.25),
        index=2,
        sample_rate_hz=24_000,
        start_sample=10,
        end_sample=10**9,
        owned_start_sample=11,
        owned_end_sample=10**9 - 1,
        is_last=True,
        damage="the file is cut short",
    )
    (receipt,) = parts.commit(store, [heard(shard)])
    assert parts.outcomes_of(store, receipt.part)[0].shard == shard


def test_a_part_that_is_merged_while_it_is_read_is_found_in_the_merged_one(store, monkeypatch):
    keys = [
        receipt.part
        for n in range(3)
        for receipt in parts.commit(store, heard_all(recording(f"{n}"), 1))
    ]
    read, is_merged = parts.read_rows, []

    def read_late(store, key, columns=None):
        if not is_merged and columns is not None:
            is_merged.append(True)
            parts.merge(store, keys)
        return read(store, key, columns)

    monkeypatch.setattr(parts, "read_rows", read_late)
    monkeypatch.setattr(parts, "in_parallel", map)
    found = {receipt.recording_id for receipt in parts.receipts(store)}
    assert found == {recording(f"{n}").recording_id for n in range(3)}
