"""The stages as plain functions, with a registry that is no actor: everything but Ray itself."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from nightscribe.cluster.packet_plan import SHARDS_PER_SLOT
from nightscribe.cluster.read_tasks import ReadTask, StoppedError, read_packets, task_list
from nightscribe.cluster.rows import (
    PacketSize,
    cuts_of,
    packet_table,
    packets,
    receipts_of,
    receipts_table,
)
from nightscribe.cluster.transcribing_actor import CommitOptions, TranscribingActor
from nightscribe.records import Failure, Span
from nightscribe.runs.shards import CutShard, ShardOptions
from nightscribe.storage import parts
from nightscribe.storage.local import LocalStore
from nightscribe.storage.locations import S3Config
from nightscribe.storage.run import begin, index_plan
from tests.cluster.local_registry import Answer, LocalRegistry, a_registry
from tests.cluster.stages import plan_file, read, recording, sound, transcriber
from tests.storage.records import failure, heard_all

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Around:
    """A transcriber that does something before the real one hears a clip."""

    has_died = False
    model = model_revision = ""
    num_threads = 4

    def __init__(self):
        self._inner, self._threads = transcriber(4), ThreadPoolExecutor(self.num_threads)
        self.stats = self._inner.stats


@pytest.fixture(autouse=True)
def answers(monkeypatch):
    monkeypatch.setattr("ray.get", lambda answer: answer.value)


PACKET = PacketSize(num_shards=4, num_bytes=2**20, num_first=2)


def read_tables(folder, recordings, registry, reader=read, done_ids=(), num_workers=1):
    """What the read tasks of a plan of these recordings yield, one task after another."""
    path = plan_file(recordings, folder)
    begin(LocalStore(folder / "run"), path, {})
    index = index_plan(path)
    tasks = task_list(
        output=str(folder / "run"),
        s3=S3Config(),
        keys=index.keys,
        left=pa.Table.from_batches(index.batches),
        done_ids=dict(done_ids),
        packet=PACKET,
        packet_s=0.0,
        num_workers=num_workers,
    )
    task = ReadTask(tasks=Answer(tasks), read=reader, registry=registry, max_worker_deaths=3)
    for number in range(tasks.num_tasks):
        yield from read_packets(pa.table({"task": [number]}), task)


@pytest.fixture
def read_all(tmp_path):
    def read_all(recordings, registry, reader=read, **more):
        tables = read_tables(tmp_path, recordings, registry, reader, **more)
        return [cut for table in tables for cut in cuts_of(table)]

    return read_all


@pytest.fixture
def hear_all(tmp_path):
    """Outcomes of packets that an actor gets at once, read from what it committed."""

    def hear_all(cuts, registry, make=lambda: transcriber(4), size=2):
        output = tmp_path / "out"
        commits = CommitOptions(output=str(output), s3=S3Config(), interval_s=0.2)
        actor = TranscribingActor(
            make, ShardOptions(), registry, commits, shards_in_flight=8, max_worker_deaths=3
        )
        tables = [packet_table(cuts[n : n + size]) for n in range(0, len(cuts), size)]

        async def blocks():
            return await asyncio.gather(*map(actor, tables))

        receipts = [
            one for table in asyncio.run(blocks()) for one in receipts_of(table.to_pylist()[0])
        ]
        store = LocalStore(output)
        committed = {
            (one.recording.recording_id, one.shard.index if one.shard else None): one
            for part in {receipt.part for receipt in receipts}
            for one in parts.outcomes_of(store, part)
        }
        return [committed[one.recording_id, one.shard_index] for one in receipts]

    return hear_all


def index_of(clip):
    return int(clip.clip_id.rpartition("/")[2])


def test_sound_and_records_come_through_rows_as_they_were():
    of = recording(7, 5.0)
    cuts = [CutShard(c.shard, c.samples_N, (Span(0.5, 1.0),)) for c in read(of)]
    bad = failure(of, cuts[0].shard)
    *again, still_bad = cuts_of(packet_table([*cuts, bad]))
    assert [cut.shard for cut in again] == [cut.shard for cut in cuts]
    assert all((a.samples_N == b.samples_N).all() for a, b in zip(again, cuts, strict=True))
    assert [cut.speech for cut in again] == [cut.speech for cut in cuts]
    assert still_bad == bad
    assert list(cuts_of(packet_table([bad]))) == [bad]


def test_packets_are_read_without_a_copy_however_ray_has_sliced_them():
    packets = [list(read(recording(number, 5.0))) for number in (7, 8, 9)]
    table = pa.concat_tables(map(packet_table, packets))
    for whole in (table, table.combine_chunks()):
        some = whole.slice(1)
        again = list(cuts_of(some))
        expected = [*packets[1], *packets[2]]
        assert all((a.samples_N == b.samples_N).all() for a, b in zip(again, expected, strict=True))
        held = [(c.buffers()[2].address, c.buffers()[2].size) for c in some["samples"].chunks]
        places = [cut.samples_N.ctypes.data for cut in again]
        assert all(any(0 <= place - at < size for at, size in held) for place in places)


def test_packets_grow_to_their_size_and_depend_on_the_shards_alone():
    cuts = list(read(recording(7, 50.0)))
    sizes = [len(one) for one in packets(cuts, PACKET)]
    assert sizes == [2, 4, 4, 4, 4, 4, 3]
    shard_bytes = cuts[0].samples_N.nbytes
    small = PacketSize(num_shards=4, num_bytes=2 * shard_bytes, num_first=4)
    assert [len(one) for one in packets(cuts, small)] == [2] * 12 + [1]


def test_finished_shards_are_decoded_again_but_not_transcribed_again(read_all):
    of = recording(1, 7.0)
    done = frozenset({f"{of.recording_id}/00000", f"{of.recording_id}/00002"})
    cuts = read_all([of], LocalRegistry(), done_ids={of.source_id: done})
    assert [cut.shard.index for cut in cuts] == [1, 3]
    assert (cuts[0].samples_N == sound(of)[48_000:96_000]).all()


def test_a_file_that_kills_its_decoder_becomes_a_failure(read_all):
    of = recording(1)
    inner = a_registry()
    for _ in range(3):
        assert inner.begin_again([f"file {of.recording_id}"], "")
    found = read_all([of, recording(2)], LocalRegistry(inner))
    assert isinstance(found[0], Failure)
    assert (found[0].reason, found[0].attempts) == ("worker_killed", 3)
    assert [cut.shard.recording for cut in found[1:]] == [recording(2)] * 2


class DyingError(BaseException):
    """As if the process of a worker had ended."""


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_of_the_files_of_a_task_that_dies_again_and_again_only_the_one_at_fault_fails(
    read_all, num_tasks
):
    killer, registry = recording(2), LocalRegistry()

    def killing(recording):
        if recording == killer:
            raise DyingError
        yield from read(recording)

    recordings = [recording(n) for n in range(5)]
    for _ in range(3):
        with pytest.raises(DyingError):
            read_all(recordings, registry, killing, num_workers=num_tasks)
    found = read_all(recordings, registry, killing, num_workers=num_tasks)
    (failed,) = [cut for cut in found if isinstance(cut, Failure)]
    assert (failed.recording, failed.reason, failed.attempts) == (killer, "worker_killed", 3)
    heard = {cut.shard.recording for cut in found if isinstance(cut, CutShard)}
    assert heard == {one for one in recordings if one != killer}
    assert list(registry.inner.open_attempts) == [f"file {killer.recording_id}"]


def test_whatever_a_reader_raises_is_a_row(read_all):
    def broken(recording):
        raise RuntimeError("boom")
        yield

    (found,) = read_all([recording(1)], LocalRegistry(), broken)
    assert (found.stage, found.detail) == ("decode", "RuntimeError: boom")


def test_a_draining_registry_lets_nothing_begin(read_all, hear_all):
    registry = LocalRegistry()
    cuts = read_all([recording(1, 5.0)], registry)
    registry.inner.drain()
    assert read_all([recording(2)], registry) == []
    assert hear_all(cuts, registry) == []
    registry.inner.stop()
    with pytest.raises(StoppedError):
        read_all([recording(2)], registry)


def test_every_shard_has_an_outcome_and_the_registry_is_empty_afterwards(read_all, hear_all):
    registry = LocalRegistry()
    cuts = read_all([recording(n, 5.0) for n in range(3)], registry)
    outcomes = hear_all(cuts, registry)
    assert [outcome.shard for outcome in outcomes] == [cut.shard for cut in cuts]
    assert not registry.inner.open_attempts
    assert len(registry.inner.engines) == 1


def test_a_shard_that_was_in_three_dead_workers_is_not_begun_a_fourth_time(read_all, hear_all):
    (first, *rest) = read_all([recording(1, 7.0)], LocalRegistry())
    inner = a_registry()
    for _ in range(3):
        inner.begin_again([first.shard.shard_id], "")
    for _ in range(2):
        inner.begin_again([rest[0].shard.shard_id], "")
    inner.begin_again([rest[1].shard.shard_id], "")
    outcomes = hear_all([first, *rest], LocalRegistry(inner))
    poisoned, *others = sorted(outcomes, key=lambda one: one.shard.index)
    assert isinstance(poisoned, Failure)
    assert (poisoned.reason, poisoned.attempts) == ("worker_killed", 3)
    assert all(not isinstance(outcome, Failure) for outcome in others)


def test_an_error_of_one_shard_is_its_own_row(read_all, hear_all):
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

    cuts = read_all([recording(1, 6.0)], LocalRegistry())
    outcomes = hear_all(cuts, LocalRegistry(), Grumpy)
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].detail == "ValueError: too loud"


def test_receipts_name_what_was_committed(tmp_path):
    outcomes = [*heard_all(recording(1), 2), failure(recording(2))]
    (row,) = receipts_table(parts.commit(LocalStore(tmp_path), outcomes), outcomes).to_pylist()
    assert {(one.recording_id, one.shard_index) for one in receipts_of(row)} == {
        (recording(1).recording_id, 0),
        (recording(1).recording_id, 1),
        (recording(2).recording_id, None),
    }
    assert (row["transcribed_s"], row["num_words"]) == (20.0, 4)


def test_packets_share_parts(read_all, hear_all, tmp_path):
    cuts = read_all([recording(n, 5.0) for n in range(8)], LocalRegistry())
    hear_all(cuts, LocalRegistry())
    assert len(cuts) == 24
    assert len(list(parts.receipts(LocalStore(tmp_path / "out")))) == 24
    assert len(list((tmp_path / "out" / parts.folder_of(1)).iterdir())) <= 3


@pytest.mark.parametrize("size", [10, 1])
def test_what_waits_for_a_slot_is_given_up_when_the_run_drains(read_all, hear_all, size):
    registry, begun = LocalRegistry(), []

    class Slow(Around):
        num_threads = 2

        def submit(self, clip):
            return self._threads.submit(self._slowly, clip)

        def _slowly(self, clip):
            begun.append(clip.clip_id)
            registry.inner.drain()
            time.sleep(3.0)  # longer than a worker takes to learn of it
            return self._inner.submit(clip).result()

    cuts = read_all([recording(1, 20.0)], registry)
    outcomes = hear_all(cuts, registry, Slow, size=size)
    assert len(cuts) == 10
    assert {one.shard.shard_id for one in outcomes} == set(begun)
    assert len(begun) == 2
    assert not registry.inner.open_attempts


def test_a_worker_that_has_many_packets_announces_what_its_slots_need_and_commits_all(
    read_all, hear_all
):
    registry, num_open = LocalRegistry(), []

    class Watching(Around):
        def submit(self, clip):
            num_open.append(len(registry.inner.open_attempts))
            return self._inner.submit(clip)

    cuts = read_all([recording(1, 80.0)], registry)
    outcomes = hear_all(cuts, registry, Watching)
    assert len(outcomes) == len(cuts) == 40
    assert num_open[0] == SHARDS_PER_SLOT * 4


def test_slots_do_not_wait_for_the_slowest_shards_of_packets(read_all, hear_all):
    last_began = threading.Event()

    class Uneven(Around):
        """Hears the first shard of each of the first packets until the last one has begun."""

        def submit(self, clip):
            if index_of(clip) == 39:
                last_began.set()
            if index_of(clip) in (0, 2, 4, 6):
                return self._threads.submit(self._slowly, clip)
            return self._inner.submit(clip)

        def _slowly(self, clip):
            assert last_began.wait(10.0)
            return self._inner.submit(clip).result()

    cuts = read_all([recording(1, 80.0)], LocalRegistry())
    outcomes = hear_all(cuts, LocalRegistry(), Uneven)
    assert not any(isinstance(outcome, Failure) for outcome in outcomes)


def test_every_stage_reports_the_time_it_worked_and_waited(tmp_path, hear_all):
    registry = LocalRegistry()

    def slowly(recording):
        time.sleep(0.05)
        yield from read(recording)

    cuts = []
    for table in read_tables(tmp_path, [recording(1, 11.0)], registry, slowly):
        cuts += cuts_of(table)
        time.sleep(0.1)
    hear_all(cuts, registry)
    spent = registry.inner.report().time_by_stage
    assert 0.05 <= spent["fetch and decode"].busy_s < 0.2
    assert spent["fetch and decode"].waiting_s >= 0.2
    assert spent["transcribe"].busy_s > 0
    assert spent["load the model"].waiting_s < 0.1


def test_the_loss_of_a_machine_counts_as_no_worker_death():
    inner = a_registry(living_nodes=["stays"])
    for _ in range(5):
        inner.begin(["unlucky"], "gone")
    inner.begin(["bad"], "stays")
    inner.begin_again(["bad"], "gone")
    assert inner.begin(["unlucky", "bad", "new"], "stays") == [0, 1, 0]
    assert inner.num_retries == 6
    inner.end(["bad"])
    assert inner.begin(["bad"], "stays") == [0]


def test_a_shard_that_was_in_two_dead_workers_is_transcribed_alone(read_all, hear_all):
    inside, beside = set(), {}

    class Watched(Around):
        num_threads = 16

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

    cuts = read_all([recording(1, 16.0)], LocalRegistry())
    inner = a_registry()
    for index in (2, 5):
        inner.begin_again([cuts[index].shard.shard_id], "")
        inner.begin_again([cuts[index].shard.shard_id], "")
    outcomes = hear_all(cuts, LocalRegistry(inner), Watched)
    assert not any(isinstance(outcome, Failure) for outcome in outcomes)
    assert (beside[2], beside[5]) == ({2}, {5})
    assert len(beside[0]) > 1
