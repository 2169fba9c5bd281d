"""One driver's way through what is left of a run: hands it out, publishes what is finished."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import ray

from nightscribe.cluster.attempt_registry import LedgerHandle, open_ledger
from nightscribe.cluster.dataset import receipts
from nightscribe.cluster.heartbeat import LEDGER_TIMEOUT_S, Heartbeat
from nightscribe.cluster.metrics import tell_published
from nightscribe.cluster.progress import Progress
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.rows import receipt_of
from nightscribe.cluster.run_spec import Order
from nightscribe.cluster.stage_time import Stopwatch
from nightscribe.cluster.task_batching import dealt, task_size
from nightscribe.cluster.watchdog import Watchdog
from nightscribe.errors import NightscribeError
from nightscribe.publishing import Publisher, Visible
from nightscribe.storage.run import stored_plan
from nightscribe.storage.store import Store

PUBLISH_STAGE = "publish"
TICK_S = 0.5
MAX_NAMES = 200

log = logging.getLogger(__name__)


class RunBrokenError(NightscribeError):
    """The cluster could not go on; what is committed is safe."""

    fault = "environment"


class Attempt:
    """`work_off` and then `finish`, or `end` with what went wrong."""

    def __init__(
        self, store: Store, publisher: Publisher, progress: Progress, order: Order
    ) -> None:
        self.progress = progress
        self._store, self._publisher, self._order = store, publisher, order
        self._heartbeat = Heartbeat(store, progress)
        self._published_at_s = self._beaten_at_s = time.monotonic()
        self._ledger: LedgerHandle | None = None

    def work_off(
        self,
        pool: Pool,
        stop: threading.Event,
        tell: Callable[[Progress], None],
        watchdog: Watchdog,
    ) -> None:
        """Until nothing is left, or nothing that may still begin."""
        if not self.progress.num_left:
            return
        ledger = self._ledger = open_ledger()
        self._beat(ledger)
        for batch in _ticking(self._receipts(pool, ledger)):
            self._receive(batch)
            self._drain_if_asked(stop, ledger)
            self._keep_pace(ledger)
            tell(self.progress)
            watchdog.see(self._sign())
        self._heartbeat.listen_to(ledger)

    def where(self) -> str:
        """Where it stands, for whoever wonders why it does not move."""
        lines = [f"{self.progress.state}, {self.progress.num_shards} shards committed"]
        if self._ledger is not None:
            names = ray.get(self._ledger.open_names.remote(), timeout=LEDGER_TIMEOUT_S)
            lines += ["begun and not ended, the oldest first:", *names[:MAX_NAMES]]
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        lines.append(f"{num_nodes} nodes, idle on them: {ray.available_resources()}")
        return "\n".join(lines)

    def finish(self) -> None:
        self._publish()
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
        self._heartbeat.write()

    def _receipts(self, pool: Pool, ledger: LedgerHandle) -> Iterator[list[dict[str, Any]]]:
        remaining = self._publisher.remaining(stored_plan(self._store))
        progress, order = self.progress, self._order
        size = task_size(progress.num_left, progress.estimated_s, pool.num_audio_workers)
        return receipts(dealt(remaining, size), order.stages, ledger, pool, order.cluster)

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
        now_s, intervals = time.monotonic(), self._order.intervals
        if now_s - self._published_at_s > intervals.publish_s:
            self._publish()
        if now_s - self._beaten_at_s > intervals.heartbeat_s:
            self._beat(ledger)

    def _beat(self, ledger: LedgerHandle) -> None:
        self._beaten_at_s = time.monotonic()
        self._heartbeat.listen_to(ledger)
        self._heartbeat.write()

    def _publish(self) -> None:
        """Show readers what is complete."""
        watch = Stopwatch()
        with watch:
            visible = self._publisher.publish()
        self._heartbeat.spend(PUBLISH_STAGE, watch.take())
        self.progress.show(visible)
        tell_published(visible)
        _log(visible)
        self._published_at_s = time.monotonic()

    def _sign(self) -> tuple[int, ...]:
        """Changes whenever anything is finished, be it a step of an engine."""
        progress = self.progress
        return progress.num_shards, progress.num_transcripts, self._heartbeat.num_live_steps


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
