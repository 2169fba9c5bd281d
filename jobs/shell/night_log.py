"""Watches one night of a run: its limits, and the receipt of what it did."""

import threading
from datetime import UTC, datetime

from nightscribe.budget import Limits, in_flight_s
from nightscribe.jobs.shell.workplace import Workers
from nightscribe.runs.progress import Progress
from nightscribe.storage.errors import StorageError
from nightscribe.storage.generations import generations
from nightscribe.storage.nights import NightReceipt, next_number, write_receipt
from nightscribe.storage.store import Store

HOUR_S = 3600.0


class NightLog:
    """Stops the run at its limits; writes a receipt at the first news and at the end."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        limits: Limits,
        currency: str,
        stop: threading.Event,
    ) -> None:
        self._store, self._limits, self._currency, self._stop = store, limits, currency, stop
        self._num_gpus, self._num_slots = workers.num_devices, workers.num_slots
        self._began_at = _now()
        self._number_before = len(generations(store))
        self._number: int | None = None
        self.stopped_by: str | None = None

    def show(self, progress: Progress) -> None:
        """At every tick of the driver, which holds the lease."""
        if self._number is None:
            self._write(progress)
        if self._stop.is_set():
            return
        waiting_s = in_flight_s(
            self._num_slots, progress.num_shards, progress.transcribed_s, progress.speed
        )
        self.stopped_by = self._limits.reason_to_stop(progress.elapsed_s, waiting_s)
        if self.stopped_by is not None:
            self._stop.set()

    def end(self, progress: Progress) -> NightReceipt:
        if progress.state == "finished":
            self.stopped_by = None
        return self._write(progress, _now())

    def fail(self, detail: str) -> None:
        """Without a word about what was done: status.json has it."""
        if self._number is not None:
            receipt = NightReceipt(
                number=self._number,
                state="failed",
                detail=detail,
                started_at=self._began_at,
                ended_at=_now(),
            )
            try:
                write_receipt(self._store, receipt)
            except StorageError:  # the error that ended the night is the one to show
                return

    def _write(self, progress: Progress, ended_at: str | None = None) -> NightReceipt:
        self._number = self._number or next_number(self._store)
        made = generations(self._store)
        is_new = len(made) > self._number_before
        receipt = NightReceipt(
            number=self._number,
            state=progress.state,
            detail=progress.detail,
            stopped_by=self.stopped_by,
            started_at=self._began_at,
            ended_at=ended_at,
            elapsed_s=round(progress.elapsed_s, 1),
            generation=made[-1].number if made else 0,
            num_by_change=made[-1].num_by_change if is_new else {},
            num_recordings=progress.num_recordings,
            num_done=progress.num_done,
            num_transcripts=progress.num_transcripts,
            num_failures=progress.num_new_failures,
            transcribed_s=round(progress.transcribed_s, 1),
            gpu_hours=round(self._num_gpus * progress.elapsed_s / HOUR_S, 4),
            cost=self._limits.cost(progress.elapsed_s),
            currency=self._currency if self._limits.cost_per_s else "",
        )
        write_receipt(self._store, receipt)
        return receipt


def describe_receipt(receipt: NightReceipt) -> list[str]:
    """What it cost, why it ended early, and what is left, as lines."""
    lines = []
    if receipt.cost is not None:
        lines.append(
            f"cost {receipt.cost:,.2f} {receipt.currency}: {receipt.gpu_hours:,.2f} GPU-hours"
        )
    if receipt.stopped_by is not None:
        lines.append(f"stopped, because {receipt.stopped_by}")
        lines.append(f"{receipt.num_left:,} recordings are left for the next night")
    return lines


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
