"""A run from its lease to its end: reads the plan, hands it out, publishes what is finished."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError

from nightscribe.cluster.attempt_registry import EngineSteps, RegistryHandle, open_registry
from nightscribe.cluster.audio_task import task_batches, task_size
from nightscribe.cluster.config import ClusterConfig, IntervalsConfig
from nightscribe.cluster.dataset import Stages, receipts
from nightscribe.cluster.metrics import count_published, count_retries
from nightscribe.cluster.progress import Progress, StageTime, Stopwatch
from nightscribe.cluster.ray_session import own_ray_has_ended
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.rows import receipt_of
from nightscribe.cluster.watchdog import Watchdog
from nightscribe.errors import NightscribeError
from nightscribe.publishing import NewResults, Publisher
from nightscribe.reading.run_status import STATUS_KEY, read_status
from nightscribe.records import Transcript
from nightscribe.storage.errors import StorageError
from nightscribe.storage.lease import Lease, LeaseConfig, LeaseLostError, take
from nightscribe.storage.locations import open_store
from nightscribe.storage.result_tables import published_failures
from nightscribe.storage.retiring import retire
from nightscribe.storage.run import Night, PlanIndex, Settings, begin, index_plan, read_plan
from nightscribe.storage.store import Store

CONFIG_KEY = "_run/config.yaml"
PUBLISH_STAGE = "publish"
TICK_S = 0.5
MAX_NAMES = 200
REGISTRY_TIMEOUT_S = 10.0
OWN_ERROR = re.compile(r"nightscribe\.[\w.]+: (.+)")
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


class RunBrokenError(NightscribeError):
    """The cluster could not go on; what is committed is safe."""

    fault = "environment"


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
    night: Night = field(default_factory=Night)  # what it asks of the run that is there
    retry: str = "passing"  # which failures of earlier attempts are retried
    config_text: str = ""  # stored with the run for people to read; without secrets


def transcribe(
    spec: RunSpec, pool: Pool, stop: threading.Event, show: Callable[[Progress], None]
) -> Progress:
    """Do what is left of the run until it is finished, or drained because `stop` was set.

    Raises LeaseHeldError, AnotherRunError, StorageError, StalledError or RunBrokenError; the same
    spec resumes where this attempt ended, whatever ended it.
    """
    store = open_store(spec.stages.output, spec.stages.s3)
    with take(store, spec.lease) as lease:
        attempt = _attempt(store, lease, spec)
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


def _attempt(store: Store, lease: Lease, spec: RunSpec) -> "Attempt":
    store.sweep()
    run = begin(store, spec.plan, spec.settings, spec.night)
    store.write(CONFIG_KEY, spec.config_text.encode())
    index = index_plan(spec.plan)
    publisher = Publisher(store, lease.check, index.duplicates, spec.examine, index.asked)
    publisher.restore(spec.retry)
    # What an earlier attempt committed and did not live to publish.
    publisher.publish()
    log.info("run %s begins or resumes", run.run_id, extra={"run_id": run.run_id})
    progress = _progress(store, publisher, index, run.run_id)
    retirement = partial(retire, store, lease.check, spec.intervals.retire_s)
    return Attempt(store, publisher, index, progress, spec, retirement)


def _progress(store: Store, publisher: Publisher, index: PlanIndex, run_id: str) -> Progress:
    progress = Progress(run_id=run_id, num_recordings=index.num_recordings, estimated_s=0.0)
    progress.num_done_before = index.num_recordings
    for recording_id, estimated_s in index.originals():
        if not publisher.is_published(recording_id):
            progress.num_left += 1
            progress.estimated_s += estimated_s
            progress.num_done_before -= 1 + len(index.duplicates.get(recording_id, ()))
    progress.num_failures_before = sum(
        row.failed_shard is None for row in published_failures(store)
    )
    return progress


class Attempt:
    """One attempt at a run: `work` and then `finish`, or `end` with what went wrong."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        index: PlanIndex,
        progress: Progress,
        spec: RunSpec,
        retire: Callable[[bool], int],
    ) -> None:
        self.progress = progress
        self._publisher, self._index, self._spec = publisher, index, spec
        self._retire = retire
        self._heartbeat = Heartbeat(store, progress)
        self._published_at_s = self._beat_at_s = time.monotonic()
        self._registry: RegistryHandle | None = None

    def work(
        self,
        pool: Pool,
        stop: threading.Event,
        show: Callable[[Progress], None],
        watchdog: Watchdog,
    ) -> None:
        """Until nothing is left, or nothing that may still begin."""
        if not self.progress.num_left:
            return
        registry = self._registry = open_registry()
        self._beat(registry)
        for batch in _with_ticks(self._receipts(pool, registry)):
            self._receive(batch)
            _check_ray(stop)
            self._drain_if_asked(stop, registry)
            self._publish_and_beat(registry)
            show(self.progress)
            watchdog.check(self._progress_mark())
        self._heartbeat.collect(registry)

    def describe(self) -> str:
        """The state of the run, for people who wonder why it does not move."""
        lines = [f"{self.progress.state}, {self.progress.num_shards} shards committed"]
        if self._registry is not None:
            names = ray.get(self._registry.open_names.remote(), timeout=REGISTRY_TIMEOUT_S)
            lines += ["begun and not ended, oldest first:", *names[:MAX_NAMES]]
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        lines.append(f"{num_nodes} nodes, free resources: {ray.available_resources()}")
        return "\n".join(lines)

    def finish(self) -> None:
        self._publish()
        num_left = sum(
            not self._publisher.is_published(name) for name, _ in self._index.originals()
        )
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
        self.progress.state, self.progress.detail = state, detail
        log.info("the run is %s", state, extra={"state": state, "detail": detail})
        self._heartbeat.write()

    def _receipts(self, pool: Pool, registry: RegistryHandle) -> Iterator[list[dict[str, Any]]]:
        spec, progress = self._spec, self.progress
        remaining = self._publisher.remaining(read_plan(spec.plan))
        size = task_size(progress.num_left, progress.estimated_s, pool.num_audio_workers)
        return receipts(task_batches(remaining, size), spec.stages, registry, pool, spec.cluster)

    def _receive(self, batch: list[dict[str, Any]]) -> None:
        self.progress.receive(batch)
        self._publisher.receive(map(receipt_of, batch))

    def _drain_if_asked(self, stop: threading.Event, registry: RegistryHandle) -> None:
        if not stop.is_set():
            return
        self.progress.state = "draining"
        # Repeated, because a registry whose machine was lost starts again empty.
        registry.drain.remote()

    def _publish_and_beat(self, registry: RegistryHandle) -> None:
        """Each at its own interval."""
        now_s, intervals = time.monotonic(), self._spec.intervals
        if now_s - self._published_at_s > intervals.publish_s:
            self._publish()
        if now_s - self._beat_at_s > intervals.heartbeat_s:
            self._beat(registry)

    def _beat(self, registry: RegistryHandle) -> None:
        self._beat_at_s = time.monotonic()
        self._heartbeat.collect(registry)
        self._heartbeat.write()

    def _publish(self) -> None:
        """Show readers what is complete."""
        watch = Stopwatch()
        with watch:
            new = self._publisher.publish()
        self._heartbeat.add_stage_time(PUBLISH_STAGE, watch.take())
        self.progress.add_results(new)
        count_published(new)
        _log(new)
        self._published_at_s = time.monotonic()

    def _progress_mark(self) -> tuple[int, ...]:
        """Changes whenever anything is finished, even a single step of an engine."""
        progress = self.progress
        return progress.num_shards, progress.num_transcripts, self._heartbeat.num_live_steps


class Heartbeat:
    """Collects what the workers of an attempt report, and writes status.json."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self._engines: list[EngineSteps] = []
        self._time_by_stage: dict[str, StageTime] = {}

    @property
    def num_live_steps(self) -> int:
        """Of all engines, by their last reports."""
        return sum(engine.num_live_steps for engine in self._engines)

    def add_stage_time(self, stage: str, time: StageTime) -> None:
        """Add the time that the driver itself worked."""
        self._time_by_stage[stage] = self._time_by_stage.get(stage, StageTime()) + time

    def collect(self, registry: RegistryHandle) -> None:
        try:
            asked = [registry.engine_reports.remote(), registry.stage_times.remote()]
            (engines, num_retries), times = ray.get(asked, timeout=REGISTRY_TIMEOUT_S)
        except RayError as error:
            log.warning("the attempt registry does not answer: %s", error)
            return
        count_retries(num_retries - self._progress.num_retries)
        self._progress.num_retries = num_retries
        self._progress.occupancy = _occupancy(self._engines, engines)
        self._progress.mean_occupancy = _occupancy([], engines)
        self._engines = engines
        self._progress.num_live_steps = self.num_live_steps
        self._time_by_stage.update(times)

    def write(self) -> None:
        self._progress.set_stage_times(self._time_by_stage)
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


def _occupancy(before: list[EngineSteps], now: list[EngineSteps]) -> float | None:
    """The share of slot-steps since the last report that had a stream."""
    slot_steps = sum(one.num_slot_steps for one in now) - sum(one.num_slot_steps for one in before)
    live_steps = sum(one.num_live_steps for one in now) - sum(one.num_live_steps for one in before)
    return live_steps / slot_steps if slot_steps > 0 else None


def _log(new: NewResults) -> None:
    for failure in new.failures:
        fields = {"uri": failure.recording.uri, "stage": failure.stage, "reason": failure.reason}
        log.info("no transcript", extra=fields | {"detail": failure.detail})
    if new.results:
        counts = {"num_transcripts": len(new.transcripts), "num_failures": len(new.failures)}
        log.info("published", extra=counts)


def _with_ticks(rows: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """The batches as they arrive, and an empty one after every tick without a batch."""
    arrived: SimpleQueue[list[dict[str, Any]] | BaseException | None] = SimpleQueue()
    threading.Thread(target=_pull, args=(rows, arrived), name="receipts", daemon=True).start()
    while True:
        try:
            batch = arrived.get(timeout=TICK_S)
        except Empty:
            yield []
            continue
        if batch is None:
            return
        if isinstance(batch, BaseException):
            raise RunBrokenError(f"{cause_of(batch)}; run the same command to resume") from batch
        yield batch


def _pull(rows: Iterator[list[dict[str, Any]]], arrived: SimpleQueue) -> None:
    try:
        for batch in rows:
            arrived.put(batch)
        arrived.put(None)
    except BaseException as error:
        arrived.put(error)


def _check_ray(stop: threading.Event) -> None:
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
