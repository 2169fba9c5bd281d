"""The driver of a run: hands out what is left, publishes what is finished, tells how it goes."""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.cluster.config import ClusterConfig
from pipeline.cluster.dataset import Stages, receipts
from pipeline.cluster.ledger import EngineTold, LedgerHandle, open_ledger
from pipeline.cluster.metrics import tell_published, tell_retries
from pipeline.cluster.progress import Progress
from pipeline.cluster.resources import Pool
from pipeline.cluster.rows import receipt_of
from pipeline.cluster.stopwatch import Spent, Stopwatch
from pipeline.cluster.watchdog import Watchdog
from pipeline.planning import duplicates
from pipeline.publishing import Publisher, Visible
from pipeline.records import Transcript
from pipeline.storage.errors import StorageError
from pipeline.storage.lease import Lease, LeaseConfig, LeaseLostError, take
from pipeline.storage.opening import open_store
from pipeline.storage.published import published_failures
from pipeline.storage.run import Settings, begin, stored_plan
from pipeline.storage.store import Store

STATUS_KEY = "_run/status.json"
CONFIG_KEY = "_run/config.yaml"
PUBLISH_STAGE = "publish"
TICK_S = 0.5
MAX_NAMES = 200
LEDGER_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class RunBrokenError(Exception):
    """The cluster could not go on; what is committed is safe."""


@dataclass(kw_only=True, slots=True)
class PaceConfig:
    """How often a run shows what it has."""

    publish_s: float = field(
        default=30.0, metadata={"help": "seconds between two files of transcripts"}
    )
    heartbeat_s: float = field(
        default=10.0, metadata={"help": "seconds between two writes of status.json"}
    )

    def __post_init__(self) -> None:
        for name in ("publish_s", "heartbeat_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"pace.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything one attempt at a run needs to know."""

    plan: Path  # a file written by `write_plan`
    settings: Settings
    stages: Stages
    examine: Callable[[Transcript], Transcript]
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    pace: PaceConfig = field(default_factory=PaceConfig)
    lease: LeaseConfig = field(default_factory=LeaseConfig)
    retry: str = "passing"  # which failures of earlier attempts are tried again
    config_text: str = ""  # stored with the run, for people; without secrets


def transcribe(
    order: Order, pool: Pool, stop: threading.Event, tell: Callable[[Progress], None]
) -> Progress:
    """Do what is left of the run until it is finished, or drained because `stop` was set.

    Raises LeaseHeldError, AnotherRunError, StorageError, StalledError or RunBrokenError; the same
    order continues where this attempt ended, whatever ended it.
    """
    store = open_store(order.stages.output, order.stages.s3)
    with take(store, order.lease) as lease:
        store.sweep()
        run = begin(store, order.plan, order.settings)
        store.write(CONFIG_KEY, order.config_text.encode())
        publisher = _publisher(store, lease, order)
        log.info("run %s begins or goes on", run.run_id, extra={"run_id": run.run_id})
        attempt = _Attempt(store, publisher, _progress(store, publisher, run.run_id), order.pace)
        with Watchdog(store, order.cluster.no_progress_s, attempt.where) as watchdog:
            try:
                attempt.work_off(order, pool, stop, tell, watchdog)
                attempt.finish()
            except LeaseLostError:
                # The heartbeat is another run's now.
                raise
            except KeyboardInterrupt:
                attempt.end("stopped", "ended before what was begun was finished")
                raise
            except BaseException as error:
                attempt.end("failed", " ".join(str(error).split()))
                raise
        tell(attempt.progress)
        return attempt.progress


def _publisher(store: Store, lease: Lease, order: Order) -> Publisher:
    copies = duplicates(stored_plan(store))
    publisher = Publisher(store, lease.check, copies, order.examine)
    publisher.recall(order.retry)
    # What an earlier attempt committed and did not live to show.
    publisher.publish()
    return publisher


def _progress(store: Store, publisher: Publisher, run_id: str) -> Progress:
    progress = Progress(run_id=run_id, num_recordings=0, estimated_s=0.0)
    copies = Counter(one.duplicate_of for one in stored_plan(store))
    for planned in stored_plan(store):
        progress.num_recordings += 1
        if publisher.is_remaining(planned):
            progress.num_left += 1
            progress.estimated_s += planned.estimated_s
            progress.num_done_before -= 1 + copies[planned.recording.recording_id]
    progress.num_done_before += progress.num_recordings
    progress.num_failures_before = sum(
        row.failed_shard is None for row in published_failures(store)
    )
    return progress


class _Attempt:
    """One driver's way through what is left."""

    def __init__(
        self, store: Store, publisher: Publisher, progress: Progress, pace: PaceConfig
    ) -> None:
        self.progress = progress
        self._store, self._publisher, self._pace = store, publisher, pace
        self._published_at_s = self._beaten_at_s = time.monotonic()
        self._heard: list[EngineTold] = []
        self._ledger: LedgerHandle | None = None
        self._spent_by_stage: dict[str, Spent] = {}
        self._publishing = Spent()

    def work_off(
        self,
        order: Order,
        pool: Pool,
        stop: threading.Event,
        tell: Callable[[Progress], None],
        watchdog: Watchdog,
    ) -> None:
        if not self.progress.num_left:
            return
        ledger = self._ledger = open_ledger()
        remaining = self._publisher.remaining(stored_plan(self._store))
        rows = receipts(
            remaining, self.progress.num_left, order.stages, ledger, pool, order.cluster
        )
        self._beat(ledger)
        for batch in _ticking(rows):
            self._receive(batch)
            self._drain_if_asked(stop, ledger)
            self._keep_pace(ledger)
            tell(self.progress)
            watchdog.see(self._sign())
        self._listen_to(ledger)

    def where(self) -> str:
        """Where it stands, for whoever wonders why it does not move."""
        lines = [f"{self.progress.state}, {self.progress.num_shards} shards committed"]
        if self._ledger is not None:
            names = ray.get(self._ledger.open_names.remote(), timeout=LEDGER_TIMEOUT_S)
            lines += ["begun and not ended, the oldest first:", *names[:MAX_NAMES]]
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        lines.append(f"{num_nodes} nodes, idle on them: {ray.available_resources()}")
        return "\n".join(lines)

    def _sign(self) -> tuple[int, ...]:
        """Changes whenever anything is finished, be it a step of an engine."""
        num_steps = sum(one.num_live_steps for one in self._heard)
        return self.progress.num_shards, self.progress.num_transcripts, num_steps

    def publish(self) -> None:
        """Show readers what is complete."""
        watch = Stopwatch()
        with watch:
            visible: Visible = self._publisher.publish()
        self._publishing += watch.take()
        self.progress.show(visible)
        tell_published(visible)
        _log(visible)
        self._published_at_s = time.monotonic()

    def finish(self) -> None:
        self.publish()
        num_left = sum(1 for _ in self._publisher.remaining(stored_plan(self._store)))
        if not num_left:
            self.end("finished")
        elif self.progress.state == "draining":
            self.end("stopped", f"{num_left} recordings are left")
        else:
            self.end("failed", f"{num_left} recordings came to no end")
            raise RunBrokenError(f"{num_left} recordings came to no end; run the command again")

    def end(self, state: str, detail: str = "") -> None:
        self.progress.state, self.progress.detail = state, detail
        log.info("the run is %s", state, extra={"state": state, "detail": detail})
        self._write_status()

    def _receive(self, batch: list[dict[str, Any]]) -> None:
        self.progress.receive(batch)
        self._publisher.receive(map(receipt_of, batch))

    def _drain_if_asked(self, stop: threading.Event, ledger: LedgerHandle) -> None:
        if not stop.is_set():
            return
        self.progress.state = "draining"
        # Again and again, as a ledger whose machine was lost has forgotten it.
        ledger.drain.remote()

    def _keep_pace(self, ledger: LedgerHandle) -> None:
        now_s = time.monotonic()
        if now_s - self._published_at_s > self._pace.publish_s:
            self.publish()
        if now_s - self._beaten_at_s > self._pace.heartbeat_s:
            self._beat(ledger)

    def _beat(self, ledger: LedgerHandle) -> None:
        self._beaten_at_s = time.monotonic()
        self._listen_to(ledger)
        self._write_status()

    def _listen_to(self, ledger: LedgerHandle) -> None:
        try:
            asked = [ledger.told.remote(), ledger.spent.remote()]
            (told, num_kills), spent = ray.get(asked, timeout=LEDGER_TIMEOUT_S)
        except RayError as error:
            log.warning("the ledger does not answer: %s", error)
            return
        tell_retries(num_kills - self.progress.num_kills)
        self.progress.num_kills = num_kills
        self.progress.occupancy = _occupancy(self._heard, told)
        self.progress.mean_occupancy = _occupancy([], told)
        self._heard = told
        self._spent_by_stage.update(spent)

    def _write_status(self) -> None:
        self.progress.spend({**self._spent_by_stage, PUBLISH_STAGE: self._publishing})
        document = json.dumps(self.progress.document(), indent=2) + "\n"
        try:
            self._store.write(STATUS_KEY, document.encode())
        except StorageError as error:
            log.warning("the heartbeat could not be written: %s", error)


def _log(visible: Visible) -> None:
    for failure in visible.failures:
        where = {"uri": failure.recording.uri, "stage": failure.stage, "reason": failure.reason}
        log.info("no transcript", extra=where | {"detail": failure.detail})
    if visible.results:
        numbers = {
            "num_transcripts": len(visible.transcripts),
            "num_failures": len(visible.failures),
        }
        log.info("published", extra=numbers)


def _occupancy(before: list[EngineTold], now: list[EngineTold]) -> float | None:
    """Of the slot-steps since the last look, how many heard something."""
    slot_steps = sum(one.num_slot_steps for one in now) - sum(one.num_slot_steps for one in before)
    live_steps = sum(one.num_live_steps for one in now) - sum(one.num_live_steps for one in before)
    return live_steps / slot_steps if slot_steps > 0 else None


def _ticking(rows: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """The batches as they come, and an empty one whenever none came for a tick."""
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
            raise RunBrokenError(_last_line(batch)) from batch
        yield batch


def _pull(rows: Iterator[list[dict[str, Any]]], arrived: SimpleQueue) -> None:
    try:
        for batch in rows:
            arrived.put(batch)
        arrived.put(None)
    except BaseException as error:
        arrived.put(error)


def _last_line(error: BaseException) -> str:
    """Ray's errors are stacks of several machines; what happened stands at their end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
