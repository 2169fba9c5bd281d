"""What a run stores beside its tables: its progress, and the scores of the last evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightscribe.storage.damage import read_json
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store
from nightscribe.storage.tables import read_rows

STATUS_KEY = "_run/status.json"
SCORES_KEY = "_run/evaluation.parquet"
TOTALS_KEY = "_run/evaluation.json"

Totals = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunThroughput:
    """Seconds of audio transcribed per second, and the share of slots in use; None: unknown."""

    times_real_time: float | None = None
    occupancy: float | None = None


def read_status(store: Store) -> Mapping[str, Any]:
    """The last status that the run wrote; empty if it wrote none."""
    return _read_json(store, STATUS_KEY) or {}


def read_totals(store: Store) -> Totals | None:
    """The totals of the last evaluation of this run; None if there was none."""
    return _read_json(store, TOTALS_KEY)


def read_word_error_rates(store: Store) -> dict[str, float | None]:
    """The WER of each recording in the last evaluation; empty if there was none."""
    try:
        table = read_rows(store, SCORES_KEY, ["recording_id", "word_error_rate"])
    except StorageError as error:
        if error.reason == "not_found":
            return {}
        raise
    return {row["recording_id"]: row["word_error_rate"] for row in table.to_pylist()}


def throughput_of(status: Mapping[str, Any]) -> RunThroughput:
    """The mean throughput of the last attempt at the run."""
    elapsed_s, audio_s = (status.get("history") or [(0.0, 0.0)])[-1][:2]
    return RunThroughput(
        times_real_time=audio_s / elapsed_s if elapsed_s > 0 and audio_s > 0 else None,
        occupancy=status.get("mean_occupancy", status.get("occupancy")),
    )


def _read_json(store: Store, key: str) -> Any | None:
    try:
        return read_json(store, key)
    except StorageError as error:
        if error.reason == "not_found":
            return None
        raise
