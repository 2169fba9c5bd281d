"""What the driver hears of its workers, and status.json, which tells it to everybody."""

import json
import logging
from typing import Any

import ray
from ray.exceptions import RayError

from nightscribe.cluster.attempt_registry import EngineTold, LedgerHandle
from nightscribe.cluster.metrics import tell_retries
from nightscribe.cluster.progress import Progress
from nightscribe.cluster.stage_time import Spent
from nightscribe.reading.run_status import STATUS_KEY, read_status
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store

LEDGER_TIMEOUT_S = 10.0
# An attempt that found nothing left to do says this; all else stays as the last one told it.
VERDICT = (
    *("run_id", "state", "detail", "updated_at", "left_s"),
    *("num_recordings", "num_done", "num_failures"),
)

log = logging.getLogger(__name__)


class Heartbeat:
    """Of one attempt at a run."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self._heard: list[EngineTold] = []
        self._spent_by_stage: dict[str, Spent] = {}

    @property
    def num_live_steps(self) -> int:
        """Of all engines, as far as they have told."""
        return sum(one.num_live_steps for one in self._heard)

    def spend(self, stage: str, spent: Spent) -> None:
        """Add what the driver itself did."""
        self._spent_by_stage[stage] = self._spent_by_stage.get(stage, Spent()) + spent

    def listen_to(self, ledger: LedgerHandle) -> None:
        try:
            asked = [ledger.told.remote(), ledger.spent.remote()]
            (told, num_kills), spent = ray.get(asked, timeout=LEDGER_TIMEOUT_S)
        except RayError as error:
            log.warning("the ledger does not answer: %s", error)
            return
        tell_retries(num_kills - self._progress.num_kills)
        self._progress.num_kills = num_kills
        self._progress.occupancy = _occupancy(self._heard, told)
        self._progress.mean_occupancy = _occupancy([], told)
        self._heard = told
        self._spent_by_stage.update(spent)

    def write(self) -> None:
        self._progress.spend(self._spent_by_stage)
        try:
            document = json.dumps(self._document(), indent=2) + "\n"
            self._store.write(STATUS_KEY, document.encode())
        except StorageError as error:
            log.warning("the heartbeat could not be written: %s", error)

    def _document(self) -> dict[str, Any]:
        now = self._progress.document()
        if self._progress.num_left:
            return now
        return now | dict(read_status(self._store)) | {name: now[name] for name in VERDICT}


def _occupancy(before: list[EngineTold], now: list[EngineTold]) -> float | None:
    """Of the slot-steps since the last look, how many heard something."""
    slot_steps = sum(one.num_slot_steps for one in now) - sum(one.num_slot_steps for one in before)
    live_steps = sum(one.num_live_steps for one in now) - sum(one.num_live_steps for one in before)
    return live_steps / slot_steps if slot_steps > 0 else None
