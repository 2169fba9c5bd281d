"""How recordings are dealt out to read tasks.

A read task that dies begins again with its first recording, and until it ends no other decoder can
help it: it should be short. A million tasks would keep the driver busy with nothing but tasks: they
should be few.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from nightscribe.cluster.rows import remaining_table
from nightscribe.planning import estimated_s
from nightscribe.publishing import Remaining

MAX_RECORDINGS_PER_TASK = 64
TASKS_PER_DECODER = 4
# About as much as is decoded in a second.
MIN_TASK_S = 600.0
MAX_TASKS = 20_000


@dataclass(frozen=True, slots=True)
class TaskSize:
    """A task is full with so many recordings, or with fewer that last so long."""

    num_recordings: int
    duration_s: float


def task_size(num_recordings: int, duration_s: float, num_audio_workers: int) -> TaskSize:
    """For so much work: every decoder gets several tasks, so that they end together."""
    even = num_recordings // (TASKS_PER_DECODER * num_audio_workers)
    return TaskSize(
        num_recordings=min(max(even, 1), MAX_RECORDINGS_PER_TASK),
        duration_s=max(MIN_TASK_S, duration_s / MAX_TASKS),
    )


def dealt(remaining: Iterable[Remaining], size: TaskSize) -> Iterator[pa.Table]:
    """The rows of one task after the other, in order."""
    some: list[Remaining] = []
    some_s = 0.0
    for one in remaining:
        some.append(one)
        some_s += estimated_s(one.recording)
        if len(some) == size.num_recordings or some_s >= size.duration_s:
            yield remaining_table(some)
            some, some_s = [], 0.0
    if some:
        yield remaining_table(some)
