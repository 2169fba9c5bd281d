"""A run divided among several executors: each runs a graph of its own, for the ids that it owns.

One driver's graph feeds a limited number of GPUs. An executor is an actor with an execution over a
share of the recordings, by their ids, and a share of the workers. The driver keeps the lease and
writes the tables; it receives nothing for each shard.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nightscribe.cluster.execution import Execution, RunBrokenError, Work
from nightscribe.cluster.progress import Progress
from nightscribe.cluster.publish_tasks import ResultWriter
from nightscribe.cluster.resources import Pool
from nightscribe.publishing import Publisher, PublisherShare
from nightscribe.records import Recording
from nightscribe.results import ResultFiles
from nightscribe.storage.locations import open_store
from nightscribe.storage.run import PlanIndex

POLL_S = 1.0
ANSWER_S = 60.0
ID_DIGITS = 8  # of an id, which is a hash: enough to divide by


def owner_of(recording_id: str, num_executors: int) -> int:
    """The executor of a recording, of all its channels and of its copies."""
    return int(recording_id[:ID_DIGITS], 16) % num_executors


def shares_of(pool: Pool, num_executors: int) -> list[Pool]:
    """The workers of each executor."""
    return [
        replace(
            pool,
            num_actors=_share(pool.num_actors, number, num_executors),
            num_audio_workers=max(_share(pool.num_audio_workers, number, num_executors), 1),
        )
        for number in range(num_executors)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorReport:
    """What an executor reports to the driver every second."""

    progress: Progress
    results: list[ResultFiles]  # to be written


class Executor:
    """One execution in a process of its own."""

    def __init__(
        self,
        run_id: str,
        index: PlanIndex,
        share: PublisherShare,
        work: Work,
    ) -> None:
        store = open_store(work.stages.output, work.stages.s3)
        # It never writes tables itself.
        publisher = Publisher(store, _no_lease, {}, work.examine, revision=work.revision)
        publisher.take_share(share)
        progress = Progress(run_id=run_id, num_recordings=index.num_recordings, estimated_s=0.0)
        self._outbox, self._work, self._stop = Outbox(), work, threading.Event()
        self._execution = Execution(publisher, index, progress, self._outbox)

    def work(self) -> int:
        """Until nothing is left that may begin; the number of recordings without a result."""
        self._execution.work(self._work, self._stop, lambda: None)
        return self._execution.num_left()

    def report(self, written: Sequence[tuple[str, ...]], is_stopped: bool) -> ExecutorReport:
        self._outbox.acknowledge(written)
        if is_stopped:
            self._stop.set()
        progress = self._execution.progress
        return ExecutorReport(progress=progress, results=self._outbox.take())

    def describe(self) -> str:
        return self._execution.describe()


class Outbox:
    """Results of an executor that the driver has to write; used by two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, ...], ResultFiles] = {}
        self._sent: dict[tuple[str, ...], ResultFiles] = {}
        self._written: list[ResultFiles] = []

    def submit(self, made: ResultFiles) -> None:
        with self._lock:
            self._waiting[made.names] = made

    def take(self) -> list[ResultFiles]:
        with self._lock:
            taken, self._waiting = self._waiting, {}
            # What is kept until it was written needs no bytes.
            self._sent |= {names: replace(made, files=()) for names, made in taken.items()}
            return list(taken.values())

    def acknowledge(self, written: Sequence[tuple[str, ...]]) -> None:
        with self._lock:
            self._written += [self._sent.pop(names) for names in written]

    def take_written(self) -> list[ResultFiles]:
        with self._lock:
            taken, self._written = self._written, []
            return taken


class Executors:
    """The same as an `Execution`, by several."""

    def __init__(
        self,
        publisher: Publisher,
        index: PlanIndex,
        progress: Progress,
        writer: ResultWriter,
        num_executors: int,
    ) -> None:
        self.progress = progress
        self._publisher, self._index, self._writer = publisher, index, writer
        self._num_executors = num_executors
        self._num_left = sum(map(len, index.batches))
        self._executors: list[Any] = []

    def work(self, work: Work, stop: threading.Event, tick: Callable[[], None]) -> None:
        self._executors = [
            self._executor(number, replace(work, pool=pool))
            for number, pool in enumerate(shares_of(work.pool, self._num_executors))
        ]
        self.progress.estimated_s = _total_s(self._index)
        working = [executor.work.remote() for executor in self._executors]
        written: list[list[tuple[str, ...]]] = [[] for _ in self._executors]
        try:
            while not self._have_ended(working):
                written = self._exchange(written, stop)
                tick()
            self._exchange(written, stop)
            self._num_left = sum(ray.get(working))
        except RayError as error:
            raise RunBrokenError(f"an executor was lost: {_first_line(error)}") from error

    def num_left(self) -> int:
        return self._num_left

    @property
    def num_live_steps(self) -> int:
        return self.progress.num_live_steps

    def describe(self) -> str:
        asked = [executor.describe.remote() for executor in self._executors]
        return "\n\n".join(ray.get(asked, timeout=ANSWER_S))

    def _executor(self, number: int, work: Work) -> Any:
        """With its share of the plan and of what is committed; it ends with the driver."""

        def is_ours(source: str) -> bool:
            return owner_of(source, self._num_executors) == number

        index = _share_of_index(self._index, self._publisher, is_ours)
        # On the driver's machine: a spot node that leaves takes no executor with it.
        node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        # Threads: one works, the others answer.
        actor = ray.remote(Executor).options(
            num_cpus=0, max_concurrency=3, scheduling_strategy=node
        )
        share = self._publisher.share(is_ours)
        return actor.remote(self.progress.run_id, index, share, work)

    def _have_ended(self, working: list[ray.ObjectRef]) -> bool:
        ready, _ = ray.wait(working, num_returns=len(working), timeout=POLL_S)
        # The loss of an executor is raised at once.
        ray.get(ready)
        return len(ready) == len(working)

    def _exchange(
        self, written: list[list[tuple[str, ...]]], stop: threading.Event
    ) -> list[list[tuple[str, ...]]]:
        """Tell what was written, write what is new; the names of it."""
        asked = [
            executor.report.remote(names, stop.is_set())
            for executor, names in zip(self._executors, written, strict=True)
        ]
        reports: list[ExecutorReport] = ray.get(asked, timeout=ANSWER_S)
        for made in (made for report in reports for made in report.results):
            self._writer.submit(made)
        self._writer.take_written()
        self.progress.set_sum([report.progress for report in reports])
        if any(report.progress.state == "draining" for report in reports):
            self.progress.state = "draining"
        return [[made.names for made in report.results] for report in reports]


def _share_of_index(
    index: PlanIndex, publisher: Publisher, is_ours: Callable[[str], bool]
) -> PlanIndex:
    batches = []
    for batch in index.batches:
        names = batch["recording_id"].to_pylist()
        is_done_N = publisher.are_published(names)
        chosen = [
            is_ours(name) and not is_done for name, is_done in zip(names, is_done_N, strict=True)
        ]
        batches.append(batch.filter(pa.array(chosen, pa.bool_())))
    none: dict[str, list[Recording]] = {}
    num_recordings = sum(map(len, batches))
    return replace(index, num_recordings=num_recordings, duplicates=none, batches=tuple(batches))


def _total_s(index: PlanIndex) -> float:
    return sum(pc.sum(batch["estimated_s"]).as_py() or 0.0 for batch in index.batches)


def _share(number_of: int, number: int, num_shares: int) -> int:
    return number_of * (number + 1) // num_shares - number_of * number // num_shares


def _no_lease() -> None:
    raise RunBrokenError("an executor does not hold the lease")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
