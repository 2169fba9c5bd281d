"""The receipts of a run: for each night, what it found, did, left and cost.

A receipt is written when the night begins to work and again when it ends. One that says `running`
long after the last heartbeat belongs to a night that was killed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from nightscribe.storage.damage import read_json
from nightscribe.storage.store import Store
from nightscribe.storage.tables import in_parallel

FOLDER = "_run/nights"
RECEIPT = re.compile(rf"{FOLDER}/(\d+)\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class NightReceipt:
    """What one attempt at a run did."""

    number: int
    state: str  # running, finished, stopped, failed
    detail: str = ""
    stopped_by: str | None = None  # why it stopped before its end, where a limit did it
    started_at: str = ""
    ended_at: str | None = None
    elapsed_s: float = 0.0
    generation: int = 0
    num_by_change: Mapping[str, int] = field(default_factory=dict)  # where it added a generation
    num_recordings: int = 0
    num_done: int = 0  # of them, with all earlier nights
    num_transcripts: int = 0
    num_failures: int = 0
    transcribed_s: float = 0.0
    gpu_hours: float = 0.0
    cost: float | None = None
    currency: str = ""

    @property
    def num_left(self) -> int:
        return max(self.num_recordings - self.num_done, 0)


def next_number(store: Store) -> int:
    return max((int(found[1]) for found in _matches(store)), default=0) + 1


def write_receipt(store: Store, receipt: NightReceipt) -> None:
    document = json.dumps(asdict(receipt), indent=2, sort_keys=True) + "\n"
    store.write(f"{FOLDER}/{receipt.number:05d}.json", document.encode())


def read_receipts(store: Store) -> list[NightReceipt]:
    """All of them, in order."""
    keys = sorted(found[0] for found in _matches(store))
    return list(in_parallel(lambda key: NightReceipt(**read_json(store, key)), keys))


def _matches(store: Store) -> list[re.Match[str]]:
    found = (RECEIPT.fullmatch(entry.key) for entry in store.entries(f"{FOLDER}/"))
    return [one for one in found if one]
