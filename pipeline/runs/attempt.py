"""A run from its lease to its end: one writer, its heartbeat, and whatever executes the work."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.errors import NightscribeError
from nightscribe.publishing import Publisher
from nightscribe.reading.run_status import read_status
from nightscribe.results import Examine
from nightscribe.runs.config import ClusterConfig, IntervalsConfig
from nightscribe.runs.heartbeat import Heartbeat
from nightscribe.runs.progress import Progress
from nightscribe.runs.shards import ClipTranscriber, Stages
from nightscribe.runs.watchdog import Watchdog
from nightscribe.storage.lease import Lease, LeaseConfig, LeaseLostError, take
from nightscribe.storage.locations import open_store
from nightscribe.storage.result_tables import planned_id, published_failures
from nightscribe.storage.retiring import retire
from nightscribe.storage.run import Night, PlanIndex, Settings, begin, index_plan
from nightscribe.storage.store import Store

CONFIG_KEY = "_run/config.yaml"
# The state of the last attempt; every other one says that something ended it.
ENDED_WELL = ("finished", "stopped")
log = logging.getLogger(__name__)


class RunBrokenError(NightscribeError):
    """The run could not go on; what is committed is safe."""

    fault = "environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything that an attempt at a run needs to know."""

    plan: Path  # a file written by `write_plan`
    settings: Settings
    stages: Stages
    examine: Examine
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    intervals: IntervalsConfig = field(default_factory=IntervalsConfig)
    lease: LeaseConfig = field(default_factory=LeaseConfig)
    night: Night = field(
        default_factory=lambda: Night(retry="passing")
    )  # what it asks of the run that is there
    # Loads a transcriber into this process for recordings of about these durations in seconds.
    # None: workers have to do the work.
    load_here: Callable[[Sequence[float]], ClipTranscriber] | None = None
    config_text: str = ""  # stored with the run for people to read; without secrets


class Execution(Protocol):
    """What works through the rest of a plan: workers of Ray, or this process."""

    def work(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Until nothing is left, or nothing that may still begin."""

    def num_left(self) -> int:
        """Recordings without a result."""

    @property
    def num_live_steps(self) -> int:
        """Of all engines, by their last reports."""

    def describe(self) -> str:
        """Where it stands, for people who wonder why it does not move."""

    def stacks_of_workers(self, timeout_s: float) -> str:
        """Stack traces of other processes than this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What an attempt knows when it begins: an execution is made of it."""

    spec: RunSpec
    store: Store
    revision: int  # of the settings of the run
    index: PlanIndex
    publisher: Publisher
    progress: Progress
    check_lease: Callable[[], None]
    restored: Callable[[str], Publisher]  # another publisher that knows what is stored by now
    has_died_before: bool  # whether the last attempt ended without saying so, or failed


OpenExecution = Callable[[Begun], Execution]


def work_through(
    spec: RunSpec,
    open_execution: OpenExecution,
    stop: threading.Event,
    show: Callable[[Progress], None],
) -> Progress:
    """Do what is left of the run until it is finished, or drained because `stop` was set.

    Raises LeaseHeldError, AnotherRunError, StorageError, StalledError or RunBrokenError; the same
    spec resumes where this attempt ended, whatever ended it.
    """
    store = open_store(spec.stages.output, spec.stages.s3)
    with take(store, spec.lease) as lease:
        begun = _begun(store, lease, spec)
        execution = open_execution(begun)
        attempt = Attempt(begun, execution)
        stall_s = spec.cluster.stall_timeout_s
        stacks = execution.stacks_of_workers
        with Watchdog(store, stall_s, execution.describe, stacks) as watchdog:
            try:
                attempt.work(stop, show, watchdog)
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


def _begun(store: Store, lease: Lease, spec: RunSpec) -> Begun:
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
    return Begun(
        spec=spec,
        store=store,
        revision=run.revision,
        index=index,
        publisher=publisher,
        progress=_progress(store, publisher, index, run.run_id),
        check_lease=lease.check,
        restored=restored,
        has_died_before=read_status(store).get("state", "finished") not in ENDED_WELL,
    )


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
        row.failed_shard is None
        and planned_id(row.recording_id, row.num_channels) not in index.left
        for row in published_failures(store, index.asked)
    )
    return progress


class Attempt:
    """One attempt at a run: `work` and then `finish`, or `end` with what went wrong."""

    def __init__(self, begun: Begun, execution: Execution) -> None:
        self.progress = begun.progress
        self._execution, self._intervals = execution, begun.spec.intervals
        self._retire = partial(
            retire, begun.store, begun.check_lease, begun.spec.intervals.retire_s
        )
        self._heartbeat = Heartbeat(begun.store, self.progress)
        self._beat_at_s = 0.0

    def work(
        self, stop: threading.Event, show: Callable[[Progress], None], watchdog: Watchdog
    ) -> None:
        """Until nothing is left, or nothing that may still begin."""

        def tick() -> None:
            self._beat_when_due()
            show(self.progress)
            watchdog.check(self._progress_mark())

        if self.progress.num_left:
            self._beat_when_due()
            self._execution.work(stop, tick)

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
        if now_s - self._beat_at_s > self._intervals.heartbeat_s:
            self._beat_at_s = now_s
            self._heartbeat.write()

    def _progress_mark(self) -> tuple[int, ...]:
        """Changes whenever anything is finished, even a single step of an engine."""
        progress = self.progress
        return progress.num_shards, progress.num_transcripts, self._execution.num_live_steps
