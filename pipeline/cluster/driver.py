"""A run from its lease to its end: one writer, its heartbeat, and the execution that works."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from nightscribe.cluster.config import ClusterConfig, IntervalsConfig, num_executors
from nightscribe.cluster.execution import Execution, RunBrokenError, Work, check_ray
from nightscribe.cluster.executors import Executors
from nightscribe.cluster.progress import Progress
from nightscribe.cluster.publish_tasks import DirectWriter
from nightscribe.cluster.ray_graph import Stages
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.watchdog import Watchdog
from nightscribe.publishing import Publisher
from nightscribe.reading.run_status import STATUS_KEY, read_status
from nightscribe.records import Transcript
from nightscribe.storage.errors import StorageError
from nightscribe.storage.lease import Lease, LeaseConfig, LeaseLostError, take
from nightscribe.storage.locations import open_store
from nightscribe.storage.result_tables import published_failures
from nightscribe.storage.retiring import retire
from nightscribe.storage.run import Night, PlanIndex, Settings, begin, index_plan
from nightscribe.storage.store import Store

CONFIG_KEY = "_run/config.yaml"
# An attempt that found nothing left to do updates these; the rest of status.json stays.
RESULT_FIELDS = (
    "run_id",
    "state",
    "detail",
    "updated_at",
    "left_s",
    "num_recordings",
    "num_done",
    "num_failures",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything that an attempt at a run needs to know."""

    plan: Path  # a file written by `write_plan`
    settings: Settings
    stages: Stages
    examine: Callable[[Transcript], Transcript]
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    intervals: IntervalsConfig = field(default_factory=IntervalsConfig)
    lease: LeaseConfig = field(default_factory=LeaseConfig)
    night: Night = field(
        default_factory=lambda: Night(retry="passing")
    )  # what it asks of the run that is there
    config_text: str = ""  # stored with the run for people to read; without secrets

    def work(self, pool: Pool, revision: int) -> Work:
        return Work(
            stages=self.stages,
            examine=self.examine,
            pool=pool,
            cluster=self.cluster,
            intervals=self.intervals,
            revision=revision,
        )


def transcribe(
    spec: RunSpec, pool: Pool, stop: threading.Event, show: Callable[[Progress], None]
) -> Progress:
    """Do what is left of the run until it is finished, or drained because `stop` was set.

    Raises LeaseHeldError, AnotherRunError, StorageError, StalledError or RunBrokenError; the same
    spec resumes where this attempt ended, whatever ended it.
    """
    store = open_store(spec.stages.output, spec.stages.s3)
    with take(store, spec.lease) as lease:
        count = num_executors(spec.cluster, pool.num_actors)
        attempt = _attempt(store, lease, spec, count)
        with Watchdog(store, spec.cluster.stall_timeout_s, attempt.describe) as watchdog:
            try:
                attempt.work(pool, stop, show, watchdog)
                attempt.finish()
            except LeaseLostError:
                # status.json belongs to another run now.
                raise
            except KeyboardInterrupt:
                attempt.end("stopped", "ended before what had begun was finished")
                raise
            except BaseException as error:
                attempt.end("failed", " ".join(str(error).split()))
                raise
        show(attempt.progress)
        return attempt.progress


def _attempt(store: Store, lease: Lease, spec: RunSpec, count: int) -> "Attempt":
    """With as many executors as that."""
    store.sweep()
    run = begin(store, spec.plan, spec.settings, spec.night)
    store.write(CONFIG_KEY, spec.config_text.encode())
    index = index_plan(spec.plan)
    known = index.duplicates, spec.examine, index.asked, run.revision, index.left

    def restored(retry: str) -> Publisher:
        publisher = Publisher(store, lease.check, *known)
        publisher.restore(retry)
        return publisher

    publisher = restored(spec.night.retry)
    log.info("run %s begins or resumes", run.run_id, extra={"run_id": run.run_id})
    progress = _progress(store, publisher, index, run.run_id)
    writer = DirectWriter(store, lease.check)
    retirement = partial(retire, store, lease.check, spec.intervals.retire_s)
    execution: Execution | Executors = (
        Executors(publisher, index, progress, writer, count, partial(restored, "none"))
        if count > 1
        else Execution(publisher, index, progress, writer)
    )
    return Attempt(store, execution, spec, run.revision, retirement)


def _progress(store: Store, publisher: Publisher, index: PlanIndex, run_id: str) -> Progress:
    progress = Progress(run_id=run_id, num_recordings=index.num_recordings, estimated_s=0.0)
    progress.num_done_before = index.num_recordings
    for batch in index.batches:
        names = batch["recording_id"].to_pylist()
        is_done_N = publisher.are_published(names)
        left = batch.filter(pa.array(~is_done_N))
        progress.num_left += len(left)
        progress.estimated_s += pc.sum(left["estimated_s"]).as_py() or 0.0
        progress.num_done_before -= len(left)
        if index.duplicates:
            copies = [index.duplicates.get(name, ()) for name in left["recording_id"].to_pylist()]
            progress.num_done_before -= sum(map(len, copies))
    progress.num_failures_before = sum(
        row.failed_shard is None for row in published_failures(store)
    )
    return progress


class Attempt:
    """One attempt at a run: `work` and then `finish`, or `end` with what went wrong."""

    def __init__(
        self,
        store: Store,
        execution: Execution | Executors,
        spec: RunSpec,
        revision: int,
        retire: Callable[[bool], int],
    ) -> None:
        self.progress, self._retire = execution.progress, retire
        self._execution, self._spec, self._revision = execution, spec, revision
        self._heartbeat = Heartbeat(store, self.progress)
        self._beat_at_s = 0.0

    def work(
        self,
        pool: Pool,
        stop: threading.Event,
        show: Callable[[Progress], None],
        watchdog: Watchdog,
    ) -> None:
        """Until nothing is left, or nothing that may still begin."""

        def tick() -> None:
            check_ray(stop)
            self._beat_when_due()
            show(self.progress)
            watchdog.check(self._progress_mark())

        if self.progress.num_left:
            self._beat_when_due()
            self._execution.work(self._spec.work(pool, self._revision), stop, tick)

    def describe(self) -> str:
        """The state of the run, for people who wonder why it does not move."""
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        nodes = f"{num_nodes} nodes, free resources: {ray.available_resources()}"
        return f"{self._execution.describe()}\n{nodes}"

    def finish(self) -> None:
        num_left = self._execution.num_left()
        # What new transcripts replace goes after they are visible.
        self._retire(not num_left)
        if not num_left:
            self.end("finished")
        elif self.progress.state == "draining":
            self.end("stopped", f"{num_left} recordings are left")
        else:
            self.end("failed", f"{num_left} recordings have no result")
            raise RunBrokenError(
                f"{num_left} recordings have no result; run the same command to resume"
            )

    def end(self, state: str, detail: str = "") -> None:
        self.progress.end(state, detail)
        log.info("the run is %s", state, extra={"state": state, "detail": detail})
        self._heartbeat.write()

    def _beat_when_due(self) -> None:
        now_s = time.monotonic()
        if now_s - self._beat_at_s > self._spec.intervals.heartbeat_s:
            self._beat_at_s = now_s
            self._heartbeat.write()

    def _progress_mark(self) -> tuple[int, ...]:
        """Changes whenever anything is finished, even a single step of an engine."""
        progress = self.progress
        return progress.num_shards, progress.num_transcripts, self._execution.num_live_steps


class Heartbeat:
    """Writes status.json."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress

    def write(self) -> None:
        try:
            document = json.dumps(self._document(), indent=2) + "\n"
            self._store.write(STATUS_KEY, document.encode())
        except StorageError as error:
            log.warning("the heartbeat could not be written: %s", error)

    def _document(self) -> dict[str, Any]:
        now = self._progress.document()
        if self._progress.num_left:
            return now
        before = dict(read_status(self._store))
        return now | before | {name: now[name] for name in RESULT_FIELDS}
