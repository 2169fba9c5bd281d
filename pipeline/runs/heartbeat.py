"""status.json of a run: written now and then while it works, and at its end."""

import json
import logging
from typing import Any

from nightscribe.reading.run_status import STATUS_KEY, read_status
from nightscribe.runs.progress import Progress
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store

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
