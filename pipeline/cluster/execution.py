"""The work of an attempt: runs the graph over what is left, and publishes what is complete.

An execution has a publisher of its own and knows neither the lease nor status.json: a driver has
one, or several as actors, each for the recordings whose ids fall to it.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import GetTimeoutError, RayError

from nightscribe.cluster.attempt_registry import (
    RegistryHandle,
    RegistryReport,
    open_registry,
)
from nightscribe.cluster.metrics import count_published, count_retries
from nightscribe.cluster.packet_plan import packet_plan
from nightscribe.cluster.publish_tasks import PublishTasks, ResultWriter
from nightscribe.cluster.ray_graph import Graph, receipts
from nightscribe.cluster.ray_session import own_ray_has_ended, silence_ray
from nightscribe.cluster.read_tasks import task_list
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.rows import receipts_of
from nightscribe.publishing import Publisher
from nightscribe.results import Examine, NewResults
from nightscribe.runs.attempt import RunBrokenError
from nightscribe.runs.config import ClusterConfig, IntervalsConfig
from nightscribe.runs.progress import (
    PUBLISH_STAGE,
    Progress,
    StageTime,
    Stopwatch,
    log_results,
    waits_for,
)
from nightscribe.runs.shards import Stages
from nightscribe.storage.run import PlanIndex

TICK_S = 0.5
COLLECT_S = 2.0
MAX_NAMES = 200
REGISTRY_TIMEOUT_S = 10.0
OWN_ERROR = re.compile(r"nightscribe\.[\w.]+: (.+)")
# What Ray repeats after the loss of a machine may have skipped recordings: they come again.
MAX_PASSES = 3

Receipts = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an execution works on, and with."""

    stages: Stages
    examine: Examine
    pool: Pool
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    intervals: IntervalsConfig = field(default_factory=IntervalsConfig)
    revision: int = 1  # of the settings of the run


class Execution:
    """`work` until nothing is left, or nothing that may still begin."""

    def __init__(
        self,
        publisher: Publisher,
        index: PlanIndex,
        progress: Progress,
        writer: ResultWriter,
    ) -> None:
        self.progress = progress
        self._publisher, self._index, self._writer = publisher, index, writer
        self._registry: RegistryHandle | None = None
        self._has_report = False
        self._driver_times: dict[str, StageTime] = {}
        self._worker_times: dict[str, StageTime] = {}
        self._num_packets = 0
        self._published_at_s = self._collected_at_s = self._ticked_at_s = 0.0

    def work(self, work: Work, stop: threading.Event, tick: Callable[[], None]) -> None:
        stages = work.stages
        publishing = PublishTasks(
            self._publisher, self._writer, stages.output, stages.s3, work.examine
        )
        # What an earlier attempt committed and did not live to publish.
        self._finish_publishing(publishing, tick)
        for number in range(MAX_PASSES):
            left = self._publisher.left_of(self._index)
            if not len(left) or self.progress.state == "draining":
                return
            if not number:
                self.progress.estimated_s = pc.sum(left["estimated_s"]).as_py()
            self._registry, self._num_packets = open_registry(), 0
            for row in _with_ticks(receipts(self._graph(left, work, self._registry))):
                self._receive(row)
                if self._is_tick_due():
                    self._advance(publishing, work.intervals, stop)
                    tick()
            self._collect()
            self._finish_publishing(publishing, tick)

    def describe(self) -> str:
        """The state of the run, for people who wonder why it does not move."""
        lines = [f"{self.progress.state}, {self.progress.num_shards} shards committed"]
        if self._registry is not None:
            asked = self._registry.open_names.remote(MAX_NAMES)
            names = ray.get(asked, timeout=REGISTRY_TIMEOUT_S)
            lines += ["begun and not ended, oldest first:", *names]
        return "\n".join(lines)

    def num_left(self) -> int:
        """Recordings without a result."""
        return len(self._publisher.left_of(self._index))

    @property
    def num_live_steps(self) -> int:
        """Of all engines, by their last reports."""
        return self.progress.num_live_steps

    def _graph(self, left: pa.Table, work: Work, registry: RegistryHandle) -> Graph:
        left_s = float(pc.sum(left["estimated_s"]).as_py())
        max_shard_s = work.stages.max_shard_s
        longest_s = float(pc.max(left["estimated_s"]).as_py())
        packets = packet_plan(work.cluster, work.pool, len(left), left_s, longest_s, max_shard_s)
        tasks = task_list(
            output=work.stages.output,
            s3=work.stages.s3,
            keys=self._index.keys,
            left=left,
            done_ids=self._publisher.done_ids(),
            packet=packets.size,
            packet_s=packets.packet_s,
            num_workers=work.pool.num_audio_workers,
        )
        return Graph(
            tasks=tasks,
            stages=work.stages,
            registry=registry,
            pool=work.pool,
            config=work.cluster,
            packets=packets,
            commit_s=work.intervals.commit_s,
            revision=work.revision,
        )

    def _receive(self, row: Receipts | None) -> None:
        if row is None:
            return
        self._num_packets += 1
        committed = list(receipts_of(row))
        self.progress.receive(len(committed), row["transcribed_s"], row["num_words"])
        self._publisher.receive(committed)

    def _is_tick_due(self) -> bool:
        """Not at every receipt: what comes with a tick asks Ray for news."""
        now_s = time.monotonic()
        if now_s - self._ticked_at_s < TICK_S:
            return False
        self._ticked_at_s = now_s
        return True

    def _advance(
        self, publishing: PublishTasks, intervals: IntervalsConfig, stop: threading.Event
    ) -> None:
        """Everything that happens now and then."""
        now_s = time.monotonic()
        self._add(publishing.collect())
        if now_s - self._published_at_s > intervals.publish_s:
            self._published_at_s = now_s
            publishing.start()
        if now_s - self._collected_at_s > min(COLLECT_S, intervals.heartbeat_s):
            self._collected_at_s = now_s
            self._drain_if_asked(stop)
            self._collect()

    def _finish_publishing(self, publishing: PublishTasks, tick: Callable[[], None]) -> None:
        watch = Stopwatch()
        with watch:
            for new in publishing.collect_all():
                self._add(new)
                tick()
        spent = self._driver_times.get(PUBLISH_STAGE, StageTime()) + watch.take()
        self._driver_times[PUBLISH_STAGE] = spent
        self.progress.set_stage_times(self._worker_times | self._driver_times)

    def _add(self, new: NewResults) -> None:
        if not new:
            return
        self.progress.add_results(new)
        count_published(new)
        log_results(new)

    def _drain_if_asked(self, stop: threading.Event) -> None:
        if not stop.is_set() or self._registry is None:
            return
        self.progress.state = "draining"
        # Repeated, because a registry whose machine was lost starts again empty.
        self._registry.drain.remote()

    def _collect(self) -> None:
        """Ask the registry what workers report."""
        if self._registry is None:
            return
        try:
            report = ray.get(self._registry.report.remote(), timeout=REGISTRY_TIMEOUT_S)
        except RayError as error:
            # A busy machine starts it late, which the phase of the run tells by itself.
            is_starting = isinstance(error, GetTimeoutError) and not self._has_report
            level = logging.INFO if is_starting else logging.WARNING
            log.log(level, "the attempt registry does not answer: %s", error)
            return
        self._has_report = True
        self._take(report)
        if self.progress.state == "draining":
            self._stop_if_drained(report, self._registry)

    def _take(self, report: RegistryReport) -> None:
        progress = self.progress
        count_retries(report.num_retries - progress.num_retries)
        progress.num_retries = report.num_retries
        progress.set_steps(
            sum(engine.num_slot_steps for engine in report.engines),
            sum(engine.num_live_steps for engine in report.engines),
        )
        progress.set_transcribed(sum(engine.transcribed_s for engine in report.engines))
        self._worker_times = dict(report.time_by_stage)
        progress.set_stage_times(self._worker_times | self._driver_times)
        progress.waits_for = (
            waits_for(report.num_open, report.oldest_name) if progress.state == "draining" else ""
        )

    def _stop_if_drained(self, report: RegistryReport, registry: RegistryHandle) -> None:
        """End the graph once everything that had begun has ended and was reported."""
        if not report.num_open and report.num_packets_ended <= self._num_packets:
            # The next read task fails, which is how a graph ends before its end.
            silence_ray()
            registry.stop.remote()


def _with_ticks(rows: Iterator[Receipts]) -> Iterator[Receipts | None]:
    """The rows as they arrive, and None after every tick without one.

    Ends as well when a read task has found that nothing may begin any more.
    """
    arrived: SimpleQueue[Receipts | BaseException | None] = SimpleQueue()
    threading.Thread(target=_pull, args=(rows, arrived), name="receipts", daemon=True).start()
    while True:
        try:
            row = arrived.get(timeout=TICK_S)
        except Empty:
            yield None
            continue
        if row is None:
            return
        if isinstance(row, BaseException):
            if "StoppedError" in str(row):
                return
            raise RunBrokenError(f"{cause_of(row)}; run the same command to resume") from row
        yield row


def _pull(rows: Iterator[Receipts], arrived: SimpleQueue) -> None:
    try:
        for row in rows:
            arrived.put(row)
        arrived.put(None)
    except BaseException as error:
        arrived.put(error)


def check_ray(stop: threading.Event) -> None:
    """End at once when the Ray of this run is gone; its client would wait a minute and abort.

    A supervisor or `kill -- -GROUP` sends SIGTERM to the processes of Ray, too.
    """
    if not own_ray_has_ended():
        return
    if stop.is_set():
        log.warning("the signal has ended Ray, too")
        raise KeyboardInterrupt
    raise RunBrokenError("the Ray of this run has ended; run the same command to resume")


def cause_of(error: BaseException) -> str:
    """One sentence of an error of Ray, which holds the stacks of several machines as text.

    Our own error, wherever it stands: Ray puts advice on its settings behind it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [found[1] for found in map(OWN_ERROR.match, lines) if found]
    return own[-1] if own else lines[-1] if lines else type(error).__name__
