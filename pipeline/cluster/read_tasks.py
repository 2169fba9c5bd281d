"""Read tasks on CPU workers: rows of the plan to packets of shards with audio, or failures.

A task is a number; the worker reads the recordings that belong to it from the stored plan. A task
whose worker dies restarts at its first recording, and Ray skips as many packets as it had got
before: what a task makes depends on its number alone, except for recordings that killed a worker.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from nightscribe.cluster.attempt_registry import RegistryHandle, this_node
from nightscribe.cluster.metrics import count_decoded
from nightscribe.cluster.rows import PacketSize, packet_table, packets
from nightscribe.cluster.stack_dumps import dump_stacks_on_signal
from nightscribe.errors import NightscribeError
from nightscribe.records import Failure, Recording
from nightscribe.runs.progress import READING_STAGE, Stopwatch, timed
from nightscribe.runs.shards import Cut, CutShard, Reader, cuts_left
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.plan_rows import PlanRows

# Of every audio worker: dozens of them ask one registry.
DRAIN_CHECK_S = 3.0

TASKS_PER_WORKER = 4
# About as much as one worker decodes in a few seconds.
MIN_TASK_S = 3000.0
# The last packet of a task is rarely full, and costs the driver as much as a full one.
PACKETS_PER_TASK = 8
# Each costs the driver about a millisecond before the first one starts.
MAX_TASKS = 2000
MAX_RECORDINGS_PER_TASK = 1024
# The tasks that begin at once start with small packets, so that slots do not wait for sound.
EARLY_TASKS_PER_WORKER = 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaskList:
    """Which rows of the plan each task reads, and what of them is done already."""

    output: str
    s3: S3Config
    keys: tuple[str, ...]  # of the files of the plan
    files_R: NDArray[np.int32]  # of every row that is left, the number of its file
    rows_R: NDArray[np.int32]  # and its row there
    ends_T: NDArray[np.int64]  # where the rows of each task end
    done_ids: Mapping[str, frozenset[str]]  # of finished shards and channels, by source
    packet: PacketSize
    num_early: int = 0

    @property
    def num_tasks(self) -> int:
        return len(self.ends_T)

    def rows(self, task: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        start = self.ends_T[task - 1] if task else 0
        return self.files_R[start : self.ends_T[task]], self.rows_R[start : self.ends_T[task]]

    def packet_size(self, task: int) -> PacketSize:
        if task < self.num_early:
            return self.packet
        full = self.packet.num_shards
        return PacketSize(num_shards=full, num_bytes=self.packet.num_bytes, num_first=full)


def task_ends(
    durations_R: NDArray[np.float64], num_workers: int, packet_s: float
) -> NDArray[np.int64]:
    """Where tasks end: each has as much sound as the others, or one recording that has more.

    Every worker gets several, so that all end at about the same time, and each makes several
    packets of `packet_s`.
    """
    total_s, num_rows = float(durations_R.sum()), len(durations_R)
    even_s = total_s / (TASKS_PER_WORKER * num_workers)
    enough_s = max(MIN_TASK_S, PACKETS_PER_TASK * packet_s)
    task_s = max(min(even_s, enough_s), total_s / MAX_TASKS, 1.0)
    most_rows = max(MAX_RECORDINGS_PER_TASK, num_rows // MAX_TASKS)
    ends, begun_s, begun = [], 0.0, 0
    for end, until_s in enumerate(np.cumsum(durations_R).tolist(), 1):
        if until_s - begun_s >= task_s or end - begun >= most_rows or end == num_rows:
            ends.append(end)
            begun_s, begun = until_s, end
    return np.array(ends, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTask:
    """What every read task gets besides its number."""

    tasks: ray.ObjectRef  # of a TaskList
    read: Reader
    registry: RegistryHandle
    max_worker_deaths: int


class StoppedError(NightscribeError):
    """Ends the graph: everything that had begun has ended, and nothing may begin."""

    fault = "environment"


def read_packets(table: pa.Table, task: ReadTask) -> Iterator[pa.Table]:
    """One row for each packet of the tasks with these numbers."""
    dump_stacks_on_signal()
    tasks = _task_list(task.tasks)
    watch = Stopwatch()
    for number in table["task"].to_pylist():
        cuts = _cuts(number, tasks, task)
        made = map(packet_table, packets(cuts, tasks.packet_size(number)))
        yield from timed(made, watch)
    task.registry.add_stage_time.remote(READING_STAGE, watch.take())


# A reference is equal to itself alone: the list of the last graph that this process worked for.
@lru_cache(1)
def _task_list(tasks: ray.ObjectRef) -> TaskList:
    return ray.get(tasks)


@lru_cache(2)
def _plan_rows(output: str, s3: S3Config, key: str) -> PlanRows:
    return PlanRows(open_store(output, s3), key)


def _cuts(number: int, tasks: TaskList, task: ReadTask) -> Iterator[Cut]:
    recordings = list(_recordings(tasks, number))
    names = [_name(recording) for recording in recordings]
    deaths = ray.get(task.registry.begin.remote(names, this_node()))
    if deaths is None:
        if ray.get(task.registry.is_stopped.remote()):
            raise StoppedError
        return
    drain = DrainCheck(task.registry)
    fresh = []
    for recording, num_deaths, name in zip(recordings, deaths, names, strict=True):
        done_ids = tasks.done_ids.get(recording.source_id, frozenset())
        if num_deaths >= task.max_worker_deaths:
            yield _worker_killed(recording, num_deaths)
        elif num_deaths:
            yield from _suspect(recording, name, done_ids, task, drain)
        else:
            fresh.append(name)
            yield from drain.until_asked(
                cuts_left(partial(_counted, task.read), recording, done_ids)
            )
    task.registry.end.remote(fresh)


def _recordings(tasks: TaskList, number: int) -> Iterator[Recording]:
    for file, row in zip(*tasks.rows(number), strict=True):
        plan = _plan_rows(tasks.output, tasks.s3, tasks.keys[file])
        yield from (planned.recording for planned in plan.read([int(row)]))


def _suspect(
    recording: Recording,
    name: str,
    done_ids: frozenset[str],
    task: ReadTask,
    drain: "DrainCheck",
) -> Iterator[Cut]:
    """A recording that was in a dead worker is announced by itself."""
    if not ray.get(task.registry.begin_again.remote([name], this_node())):
        return
    yield from drain.until_asked(_cuts_left(task.read, recording, done_ids))
    task.registry.end.remote([name])


def _cuts_left(read: Reader, recording: Recording, done_ids: frozenset[str]) -> Iterator[Cut]:
    return cuts_left(partial(_counted, read), recording, done_ids)


def _counted(read: Reader, recording: Recording) -> Iterator[Cut]:
    """The same shards, counted in the metrics of decoding once the recording ends."""
    cuts, decoded_s, busy_s = read(recording), 0.0, 0.0
    try:
        while True:
            began_s = time.monotonic()
            cut = next(cuts, None)
            busy_s += time.monotonic() - began_s
            if cut is None:
                return
            decoded_s += cut.shard.owned_s if isinstance(cut, CutShard) else 0.0
            yield cut
    finally:
        count_decoded(decoded_s, busy_s)


class DrainCheck:
    """Asks the registry now and then whether the run drains."""

    def __init__(self, registry: RegistryHandle) -> None:
        self._registry = registry
        self._checked_at_s = time.monotonic()
        self._is_asked = False

    def until_asked(self, cuts: Iterable[Cut]) -> Iterator[Cut]:
        """The cuts until the run drains."""
        if self._is_asked:
            return
        for cut in cuts:
            yield cut
            if self._now():
                return

    def _now(self) -> bool:
        if time.monotonic() - self._checked_at_s > DRAIN_CHECK_S:
            self._checked_at_s = time.monotonic()
            self._is_asked = ray.get(self._registry.is_draining.remote())
        return self._is_asked


def _name(recording: Recording) -> str:
    return f"file {recording.recording_id}"


def _worker_killed(recording: Recording, num_deaths: int) -> Failure:
    return Failure(
        recording=recording,
        stage="decode",
        reason="worker_killed",
        detail=f"decoding it ended the worker process {num_deaths} times",
        attempts=num_deaths,
    )


def task_list(
    *,
    output: str,
    s3: S3Config,
    keys: Sequence[str],
    left: pa.Table,
    done_ids: Mapping[str, frozenset[str]],
    packet: PacketSize,
    packet_s: float,
    num_workers: int,
) -> TaskList:
    """The tasks of rows that are left: `file`, `row` and `estimated_s` of each, in order."""
    durations_R = left["estimated_s"].to_numpy()
    ends_T = task_ends(durations_R, num_workers, packet_s)
    return TaskList(
        output=output,
        s3=s3,
        keys=tuple(keys),
        files_R=left["file"].to_numpy(),
        rows_R=left["row"].to_numpy(),
        ends_T=ends_T,
        done_ids=done_ids,
        packet=packet,
        num_early=EARLY_TASKS_PER_WORKER * num_workers,
    )
