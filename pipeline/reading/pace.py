"""How fast a run was, as its driver last told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store

STATUS_KEY = "_run/status.json"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of recordings heard in a second, and the share of slots that heard; None: unknown."""

    times_real_time: float | None = None
    occupancy: float | None = None


def read_status(store: Store) -> Mapping[str, Any]:
    """What the run last told about itself; nothing if it never did."""
    try:
        return json.loads(store.read(STATUS_KEY))
    except StorageError as error:
        if error.reason == "not_found":
            return {}
        raise


def pace_of(status: Mapping[str, Any]) -> Pace:
    """Of the last attempt at the run, from its beginning to its end."""
    elapsed_s, heard_s, _ = (status.get("history") or [(0.0, 0.0, None)])[-1]
    return Pace(
        times_real_time=heard_s / elapsed_s if elapsed_s > 0 and heard_s > 0 else None,
        occupancy=status.get("mean_occupancy", status.get("occupancy")),
    )
