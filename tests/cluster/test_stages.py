"""The stages as plain functions, with a registry that is no actor: everything but Ray itself."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nightscribe.cluster.attempt_registry import AttemptRegistry
from nightscribe.cluster.audio_task import read_remaining
from nightscribe.cluster.dataset import write_part
from nightscribe.cluster.rows import (
    CutShard,
    cut_table,
    cuts_of,
    outcome_table,
    receipt_of,
    remaining_of,
    remaining_table,
)
from nightscribe.cluster.worker import ShardOptions, TranscribingActor
from nightscribe.publishing import Remaining
from nightscribe.records import Failure, Span
from nightscribe.storage.locations import S3Config
from nightscribe.storage.rows import outcome_of
from tests.cluster.stages import read, recording, sound, transcriber
from tests.storage.records import failure, heard_all

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Remote:
    """A method of an actor, called at once."""

    def __init__(self, method):
        self._method = method

    def remote(self, *given):
        return Answer(self._method(*given))


class Answer:
    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


class LocalRegistry:
    """What a worker sees of the registry, without an actor between."""

    def __init__(self, inner=None):
        self.inner = inner or a_registry()

    def __getattr__(self, name):
        return Remote(getattr(self.inner, name))


def a_registry(living_nodes=("",)):
    return AttemptRegistry(living_nodes=lambda: set(living_nodes))


@pytest.fixture(autouse=True)
def answers(monkeypatch):
    monkeypatch.setattr("ray.get", lambda answer: answer.value)


def read_all(remaining, registry, reader=read):
    tables = list(read_remaining(remaining_table(remaining), reader, registry, 3))
    return [cut for table in tables for cut in cuts_of(table)]


def hear_all(cuts, registry, make=lambda: transcriber(4)):
    actor = TranscribingActor(make, ShardOptions(), registry, rows_in_flight=8, max_worker_deaths=3)

    async def blocks():
        tables = [cut_table(cut) for cut in cuts]
        return await asyncio.gather(*map(actor, tables))

    return [outcome_of(row) for table in asyncio.run(blocks()) for row in table.to_pylist()]


def index_of(clip):
    return int(clip.clip_id.rpartition("/")[2])


def test_sound_and_records_come_through_rows_as_they_were():
    of = recording(7, 5.0)
    cuts = [CutShard(c.shard, c.samples_N, (Span(0.5, 1.0),)) for c in read(of)]
    again = [cut for whole in cuts for cut in cuts_of(cut_table(whole))]
    assert [cut.shard for cut in again] == [cut.shard for cut in cuts]
    assert all((a.samples_N == b.samples_N).all() for a, b in zip(again, cuts, strict=True))
    assert [cut.speech for cut in again] == [cut.speech for cut in cuts]
    bad = failure(of, cuts[0].shard)
    assert list(cuts_of(cut_table(bad))) == [bad]
    left = Remaining(of, frozenset({"x/00001"}))
    assert list(remaining_of(remaining_table([left]))) == [left]


def test_finished_shards_are_decoded_again_but_not_transcribed_again():
    of = recording(1, 7.0)
    done = frozenset({f"{of.recording_id}/00000", f"{of.recording_id}/00002"})
    cuts = read_all([Remaining(of, done)], LocalRegistry())
    assert [cut.shard.index for cut in cuts] == [1, 3]
    assert (cuts[0].samples_N == sound(of)[48_000:96_000]).all()


def test_a_file_that_kills_its_decoder_becomes_a_failure():
    of = recording(1)
    inner = a_registry()
    for _ in range(3):
        assert inner.begin(f"file {of.recording_id}", "")
    found = read_all(
        [Remaining(of, frozenset()), Remaining(recording(2), frozenset())], LocalRegistry(inner)
    )
    assert isinstance(found[0], Failure)
    assert (found[0].reason, found[0].attempts) == ("worker_killed", 3)
    assert [cut.shard.recording for cut in found[1:]] == [recording(2)] * 2


def test_whatever_a_reader_raises_is_a_row():
    def broken(recording):
        raise RuntimeError("boom")
        yield

    (found,) = read_all([Remaining(recording(1), frozenset())], LocalRegistry(), broken)
    assert (found.stage, found.detail) == ("decode", "RuntimeError: boom")


def test_a_draining_registry_lets_nothing_begin():
    registry = LocalRegistry()
    cuts = read_all([Remaining(recording(1, 5.0), frozenset())], registry)
    registry.inner.drain()
    assert read_all([Remaining(recording(2), frozenset())], registry) == []
    assert hear_all(cuts, registry) == []


def test_every_shard_has_an_outcome_and_the_registry_is_empty_afterwards():
    registry = LocalRegistry()
    cuts = read_all([Remaining(recording(n, 5.0), frozenset()) for n in range(3)], registry)
    outcomes = hear_all(cuts, registry)
    assert [outcome.shard for outcome in outcomes] == [cut.shard for cut in cuts]
    assert not registry.inner.open_attempts
    (steps,) = registry.inner.engines.values()
    assert steps.num_live_steps > 0


def test_a_shard_that_was_in_three_dead_workers_is_not_begun_a_fourth_time():
    (first, *rest) = read_all([Remaining(recording(1, 7.0), frozenset())], LocalRegistry())
    inner = a_registry()
    for _ in range(3):
        inner.begin(first.shard.shard_id, "")
    for _ in range(2):
        inner.begin(rest[0].shard.shard_id, "")
    inner.begin(rest[1].shard.shard_id, "")
    poisoned, *others = hear_all([first, *rest], LocalRegistry(inner))
    assert isinstance(poisoned, Failure)
    assert (poisoned.reason, poisoned.attempts) == ("worker_killed", 3)
    assert all(not isinstance(outcome, Failure) for outcome in others)


def test_an_error_of_one_shard_is_its_own_row():
    class Grumpy:
        has_died = False
        model = model_revision = ""

        def __init__(self):
            self._inner = transcriber(4)
            self.stats = self._inner.stats

        def submit(self, clip):
            if index_of(clip) == 1:
                raise ValueError("too loud")
            return self._inner.submit(clip)

    cuts = read_all([Remaining(recording(1, 6.0), frozenset())], LocalRegistry())
    outcomes = hear_all(cuts, LocalRegistry(), Grumpy)
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].detail == "ValueError: too loud"


def test_receipts_name_what_was_committed(tmp_path):
    outcomes = [*heard_all(recording(1), 2), failure(recording(2))]
    table = write_part(outcome_table(outcomes), str(tmp_path), S3Config(), LocalRegistry())
    rows = table.to_pylist()
    told = {(receipt_of(row).recording_id, receipt_of(row).shard_index) for row in rows}
    assert told == {
        (recording(1).recording_id, 0),
        (recording(1).recording_id, 1),
        (recording(2).recording_id, None),
    }
    by_index = {row["shard_index"]: row for row in rows}
    assert by_index[0]["transcribed_s"] == 10.0
    assert by_index[None]["transcribed_s"] == 0.0


def test_every_stage_reports_the_time_it_worked_and_waited():
    registry = LocalRegistry()

    def slowly(recording):
        time.sleep(0.05)
        yield from read(recording)

    tables = read_remaining(
        remaining_table([Remaining(recording(1, 5.0), frozenset())]), slowly, registry, 3
    )
    cuts = []
    for table in tables:
        cuts += cuts_of(table)
        time.sleep(0.1)
    hear_all(cuts, registry)
    spent = registry.inner.stage_times()
    assert 0.05 <= spent["fetch and decode"].busy_s < 0.2
    assert spent["fetch and decode"].waiting_s >= 0.3
    assert spent["transcribe"].busy_s > 0
    assert spent["load the model"].waiting_s < 0.1


def test_the_loss_of_a_machine_counts_as_no_worker_death():
    inner = a_registry(living_nodes=["stays"])
    for _ in range(5):
        inner.begin("unlucky", "gone")
    inner.begin("bad", "stays")
    inner.begin("bad", "gone")
    assert inner.worker_deaths(["unlucky", "bad", "new"]) == [0, 1, 0]
    assert inner.num_retries == 5
    inner.end("bad")
    assert inner.worker_deaths(["bad"]) == [0]


def test_a_shard_that_was_in_two_dead_workers_is_transcribed_alone():
    inside, beside = set(), {}

    class Watched:
        has_died = False
        model = model_revision = ""

        def __init__(self):
            self._inner, self._threads = transcriber(4), ThreadPoolExecutor(16)
            self.stats = self._inner.stats

        def submit(self, clip):
            inside.add(index_of(clip))
            for index in inside:
                beside.setdefault(index, set()).update(inside)
            future = self._threads.submit(self._slowly, clip)
            future.add_done_callback(lambda _: inside.remove(index_of(clip)))
            return future

        def _slowly(self, clip):
            time.sleep(0.05)
            return self._inner.submit(clip).result()

    cuts = read_all([Remaining(recording(1, 16.0), frozenset())], LocalRegistry())
    inner = a_registry()
    for index in (2, 5):
        inner.begin(cuts[index].shard.shard_id, "")
        inner.begin(cuts[index].shard.shard_id, "")
    outcomes = hear_all(cuts, LocalRegistry(inner), Watched)
    assert not any(isinstance(outcome, Failure) for outcome in outcomes)
    assert (beside[2], beside[5]) == ({2}, {5})
    assert len(beside[0]) > 1
