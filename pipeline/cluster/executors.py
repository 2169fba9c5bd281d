"""A run divided among several executors: each runs a graph of its own, for the ids that it owns.

One driver's graph feeds a limited number of GPUs. An executor is an actor with an execution over a
share of the recordings, by their ids, and a share of the workers. The driver keeps the lease and
writes the tables; it receives nothing for each shard. An executor that is lost takes its workers
with it; another one reads from the output what was committed, and goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nightscribe.cluster.execution import Execution, Work, cause_of
from nightscribe.cluster.publish_tasks import ResultWriter
from nightscribe.cluster.resources import Pool
from nightscribe.publishing import Publisher, PublisherShare
from nightscribe.records import Recording
from nightscribe.results import ResultFiles
from nightscribe.runs.attempt import RunBrokenError
from nightscribe.runs.progress import Progress
from nightscribe.storage.locations import open_store
from nightscribe.storage.run import PlanIndex

POLL_S = 1.0
ANSWER_S = 60.0
ID_DIGITS = 8  # of an id, which is a hash: enough to divide by
# An executor that is lost this often before a shard is committed would be lost again.
MAX_LOSSES = 3

log = logging.getLogger(__name__)


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


@dataclass(slots=True, kw_only=True)
class _Member:
    """The executor of one share: the process that has it now."""

    number: int
    actor: Any
    working: ray.ObjectRef
    progress: Progress  # of its last report
    written: list[tuple[str, ...]] = field(default_factory=list)  # told with the next call
    num_left: int | None = None  # known when it has ended
    num_lost: int = 0  # one after the other, before any of them committed a shard
    asked: ray.ObjectRef | None = None  # a report that has not come yet
    restored: Future[Publisher] | None = None  # for the one that takes its place


class Executors:
    """The same as an `Execution`, by several; one that is lost is replaced."""

    def __init__(
        self,
        publisher: Publisher,
        index: PlanIndex,
        progress: Progress,
        writer: ResultWriter,
        num_executors: int,
        restore: Callable[[], Publisher],
    ) -> None:
        """`restore`: what is committed and published by now, read from the output."""
        self.progress = progress
        self._publisher, self._index, self._writer = publisher, index, writer
        self._num_executors, self._restore = num_executors, restore
        self._num_left = sum(map(len, index.batches))
        # Of each batch of the plan: a million ids are looked at once, not by every executor.
        self._owners = [
            np.array([owner_of(name, num_executors) for name in batch["recording_id"].to_pylist()])
            for batch in index.batches
        ]
        self._members: list[_Member] = []
        self._lost: list[Progress] = []
        self._restorer = ThreadPoolExecutor(1, thread_name_prefix="restore")

    def work(self, work: Work, stop: threading.Event, tick: Callable[[], None]) -> None:
        pools = shares_of(work.pool, self._num_executors)
        works = [replace(work, pool=pool) for pool in pools]
        self._members = [
            self._begun(number, own, self._publisher) for number, own in enumerate(works)
        ]
        self.progress.estimated_s = _total_s(self._index)
        while any(member.num_left is None for member in self._members):
            self._wait()
            self._exchange(stop)
            for member in self._members:
                self._replace_if_restored(member, works[member.number])
            tick()
        # What was asked before the end tells nothing of the end.
        for _ in range(2):
            self._exchange(stop, ANSWER_S)
        self._num_left = sum(member.num_left or 0 for member in self._members)

    def num_left(self) -> int:
        return self._num_left

    @property
    def num_live_steps(self) -> int:
        return self.progress.num_live_steps

    def describe(self) -> str:
        there = [member.actor for member in self._members if member.restored is None]
        asked = [actor.describe.remote() for actor in there]
        return "\n\n".join(ray.get(asked, timeout=ANSWER_S))

    def _begun(self, number: int, work: Work, publisher: Publisher) -> _Member:
        """At work on its share of the plan and of what is committed; it ends with the driver."""

        def is_ours(source: str) -> bool:
            return owner_of(source, self._num_executors) == number

        index = self._share_of_index(number, publisher)
        run_id = self.progress.run_id
        # On the driver's machine: a spot node that leaves takes no executor with it.
        node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        # Threads: one works, the others answer.
        remote = ray.remote(Executor).options(
            num_cpus=0, max_concurrency=3, scheduling_strategy=node
        )
        actor: Any = remote.remote(run_id, index, publisher.share(is_ours), work)
        progress = Progress(run_id=run_id, num_recordings=index.num_recordings, estimated_s=0.0)
        return _Member(number=number, actor=actor, working=actor.work.remote(), progress=progress)

    def _share_of_index(self, number: int, publisher: Publisher) -> PlanIndex:
        """What falls to an executor and is not published."""
        batches = []
        for batch, owners_N in zip(self._index.batches, self._owners, strict=True):
            is_done_N = publisher.are_published(batch["recording_id"].to_pylist())
            batches.append(batch.filter(pa.array((owners_N == number) & ~is_done_N)))
        none: dict[str, list[Recording]] = {}
        num_recordings = sum(map(len, batches))
        return replace(
            self._index, num_recordings=num_recordings, duplicates=none, batches=tuple(batches)
        )

    def _wait(self) -> None:
        """Until all have ended, for a second at most; find the lost ones."""
        working = {
            member.working: member
            for member in self._members
            if member.num_left is None and member.restored is None
        }
        if not working:
            time.sleep(POLL_S)
            return
        ready, _ = ray.wait(list(working), num_returns=len(working), timeout=POLL_S)
        for ref in ready:
            member = working[ref]
            try:
                member.num_left = ray.get(ref)
            except RayActorError as error:
                self._lose(member, error)
            except RayError as error:
                raise RunBrokenError(cause_of(error)) from error

    def _exchange(self, stop: threading.Event, timeout_s: float = POLL_S) -> None:
        """Tell what was written, write what is new; who is slow to answer is not asked twice."""
        for member in self._members:
            if member.restored is None and member.asked is None:
                member.asked = member.actor.report.remote(member.written, stop.is_set())
        asked = {member.asked: member for member in self._members if member.asked is not None}
        if not asked:
            return
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
        for ref in ready:
            member = asked[ref]
            member.asked = None
            try:
                self._take(member, ray.get(ref))
            except RayActorError as error:
                self._lose(member, error)
        progress = self.progress
        progress.set_sum([*self._lost, *(member.progress for member in self._members)])
        if any(member.progress.state == "draining" for member in self._members):
            progress.state = "draining"

    def _take(self, member: _Member, report: ExecutorReport) -> None:
        member.progress = report.progress
        member.written = [made.names for made in report.results]
        for made in report.results:
            self._writer.submit(made)
        for made in self._writer.take_written():
            # Counted here: an executor that is lost would not count what was written for it.
            self.progress.add_results(made.new)

    def _lose(self, member: _Member, error: Exception) -> None:
        """Begin to read from the output what another one needs to go on."""
        if member.num_left is not None:
            return
        ray.kill(member.actor)  # where it is only out of reach
        member.asked = None
        member.num_lost = 1 if member.progress.num_shards else member.num_lost + 1
        reason = _first_line(error)
        if member.num_lost >= MAX_LOSSES:
            raise RunBrokenError(
                f"executor {member.number} was lost {member.num_lost} times: {reason}; "
                "run the same command to resume"
            ) from error
        log.warning("executor %d was lost and is replaced: %s", member.number, reason)
        member.restored = self._restorer.submit(self._restore)

    def _replace_if_restored(self, member: _Member, work: Work) -> None:
        if member.restored is None or not member.restored.done():
            return
        begun = self._begun(member.number, work, member.restored.result())
        self._lost.append(replace(member.progress, waits_for="", state="running"))
        member.actor, member.working, member.progress = begun.actor, begun.working, begun.progress
        member.written, member.restored = [], None


def _total_s(index: PlanIndex) -> float:
    return sum(pc.sum(batch["estimated_s"]).as_py() or 0.0 for batch in index.batches)


def _share(number_of: int, number: int, num_shares: int) -> int:
    return number_of * (number + 1) // num_shares - number_of * number // num_shares


def _no_lease() -> None:
    raise RunBrokenError("an executor does not hold the lease")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
