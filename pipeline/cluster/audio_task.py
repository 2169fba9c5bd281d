"""Read tasks on CPU workers: batches of recordings to shards with audio, or failures.

A read task whose worker dies restarts at its first recording, and no other worker can help it
before it ends: tasks should be short. A million tasks would keep the driver busy: they should be
few.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import ray

from nightscribe.cluster.attempt_registry import RegistryHandle, this_node
from nightscribe.cluster.metrics import count_decoded
from nightscribe.cluster.progress import Stopwatch, timed
from nightscribe.cluster.rows import Cut, CutShard, cut_table, remaining_of, remaining_table
from nightscribe.cluster.watchdog import dump_stacks_on_signal
from nightscribe.planning import estimated_s
from nightscribe.publishing import Remaining
from nightscribe.records import Failure, Recording

# Yields the shards of a recording in order; turns every fault of the recording into a Failure.
Reader = Callable[[Recording], Iterator[Cut]]

STAGE = "fetch and decode"
DRAIN_CHECK_S = 1.0

MAX_RECORDINGS_PER_TASK = 64
TASKS_PER_WORKER = 4
# About as much as one worker decodes in a second.
MIN_TASK_S = 600.0
MAX_TASKS = 20_000


@dataclass(frozen=True, slots=True)
class TaskSize:
    """A task is full with this many recordings, or with fewer of this total duration."""

    num_recordings: int
    duration_s: float


def task_size(num_recordings: int, duration_s: float, num_workers: int) -> TaskSize:
    """The size that gives every worker several tasks, so that all end at about the same time."""
    even = num_recordings // (TASKS_PER_WORKER * num_workers)
    return TaskSize(
        num_recordings=min(max(even, 1), MAX_RECORDINGS_PER_TASK),
        duration_s=max(MIN_TASK_S, duration_s / MAX_TASKS),
    )


def task_batches(remaining: Iterable[Remaining], size: TaskSize) -> Iterator[pa.Table]:
    """The rows of one task after another, in order."""
    batch: list[Remaining] = []
    batch_s = 0.0
    for one in remaining:
        batch.append(one)
        batch_s += estimated_s(one.recording)
        if len(batch) == size.num_recordings or batch_s >= size.duration_s:
            yield remaining_table(batch)
            batch, batch_s = [], 0.0
    if batch:
        yield remaining_table(batch)


def read_remaining(
    table: pa.Table, read: Reader, registry: RegistryHandle, max_worker_deaths: int
) -> Iterator[pa.Table]:
    """One row for each shard that is still to be transcribed and for each failure."""
    dump_stacks_on_signal()
    watch = Stopwatch()
    for remaining in remaining_of(table):
        cuts = _read_one(remaining, read, registry, max_worker_deaths)
        yield from timed(map(cut_table, cuts), watch)
        registry.add_stage_time.remote(STAGE, watch.take())


def _read_one(
    remaining: Remaining, read: Reader, registry: RegistryHandle, max_worker_deaths: int
) -> Iterator[Cut]:
    name = f"file {remaining.recording.recording_id}"
    deaths = ray.get(registry.worker_deaths.remote([name]))
    if deaths is None:
        return
    if deaths[0] >= max_worker_deaths:
        yield _worker_killed(remaining.recording, deaths[0])
        return
    if not ray.get(registry.begin.remote(name, this_node())):
        return
    yield from _until_drained(_not_done(read, remaining), registry)
    registry.end.remote(name)


def _not_done(read: Reader, remaining: Remaining) -> Iterator[Cut]:
    try:
        for cut in _counted(read(remaining.recording)):
            if not _is_done(cut, remaining.done_ids):
                yield cut
    except Exception as error:
        yield Failure(
            recording=remaining.recording,
            stage="decode",
            reason="unexpected",
            detail=f"{type(error).__name__}: {error}",
        )


def _counted(cuts: Iterator[Cut]) -> Iterator[Cut]:
    """The same shards, counted in the metrics of decoding."""
    while True:
        began_s = time.monotonic()
        cut = next(cuts, None)
        decoded_s = cut.shard.owned_s if isinstance(cut, CutShard) else 0.0
        count_decoded(decoded_s, time.monotonic() - began_s)
        if cut is None:
            return
        yield cut


def _is_done(cut: Cut, done_ids: frozenset[str]) -> bool:
    recording = cut.shard.recording if isinstance(cut, CutShard) else cut.recording
    return recording.recording_id in done_ids or (
        isinstance(cut, CutShard) and cut.shard.shard_id in done_ids
    )


def _until_drained(cuts: Iterator[Cut], registry: RegistryHandle) -> Iterator[Cut]:
    checked_at_s = time.monotonic()
    for cut in cuts:
        yield cut
        if time.monotonic() - checked_at_s > DRAIN_CHECK_S:
            checked_at_s = time.monotonic()
            if ray.get(registry.worker_deaths.remote([])) is None:
                return


def _worker_killed(recording: Recording, num_deaths: int) -> Failure:
    return Failure(
        recording=recording,
        stage="decode",
        reason="worker_killed",
        detail=f"decoding it ended the worker process {num_deaths} times",
        attempts=num_deaths,
    )
