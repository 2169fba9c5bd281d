"""Logging: text or JSON lines on stderr, and a copy as JSON beside the output."""

import json
import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nightscribe.options import check_options, option
from nightscribe.storage.errors import StorageError
from nightscribe.storage.run import publish_logs
from nightscribe.storage.store import Store

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
TEXT = "%(levelname)s %(name)s: %(message)s"
# Ray's own logs, of every process on the machine of the driver.
RAW_FOLDER = "raw"
PUBLISH_S = 60.0
_PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """Logging."""

    format: str = option("text", "format of log lines on stderr", choices=FORMATS, common=True)
    level: str | None = option(
        None,
        "lowest level shown on stderr; null: warning as text, info as json",
        choices=LEVELS,
        common=True,
    )
    publish: bool = option(True, "store the log of the driver, as JSON lines, beside the output")
    raw: bool = option(False, "store Ray's own logs of the driver's machine there, too")

    def __post_init__(self) -> None:
        check_options(self, "log")

    @property
    def shown(self) -> str:
        """The level of stderr, by the names of `logging`."""
        return (self.level or ("info" if self.format == "json" else "warning")).upper()


class JsonLines(logging.Formatter):
    """A record as one line of JSON, with the values given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


@dataclass(slots=True)
class Log:
    """The log of one attempt, while it is written."""

    config: LogConfig
    path: Path
    _published_at_s: float | None = None  # None: the work has not begun yet

    def publish_when_due(self, store: Store, session: Path | None) -> None:
        """Publish once a minute; only the holder of the lease calls this."""
        if self._published_at_s is None:
            self._published_at_s = time.monotonic()
        if time.monotonic() - self._published_at_s > PUBLISH_S:
            self.publish(store, session)

    def publish(self, store: Store, session: Path | None) -> None:
        """Store it beside the output, if this run holds the lease; an error here ends no run."""
        if not self.config.publish or self._published_at_s is None:
            return
        self._published_at_s = time.monotonic()
        files = {self.path.name: self.path}
        if self.config.raw and session is not None:
            files |= _raw(session)
        try:
            publish_logs(store, files)
        except (OSError, StorageError) as error:
            log.warning("the logs could not be published: %s", error)


@contextmanager
def logged(config: LogConfig) -> Iterator[Log]:
    """Log as configured, to stderr and to a file, while the block runs."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{moment}-{socket.gethostname()}-{os.getpid()}.jsonl"
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    with tempfile.TemporaryDirectory(prefix="nightscribe-log-") as folder:
        stored = logging.FileHandler(Path(folder) / name)
        stored.setFormatter(JsonLines())
        shown = logging.StreamHandler(sys.stderr)
        shown.setFormatter(JsonLines() if config.format == "json" else logging.Formatter(TEXT))
        shown.setLevel(config.shown)
        root.handlers[:] = [shown, stored]
        # On lower levels libraries log their requests, and with them credentials.
        root.setLevel(logging.WARNING)
        logging.getLogger("nightscribe").setLevel(min(logging.INFO, shown.level))
        try:
            yield Log(config, Path(folder) / name)
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]
            stored.close()


def _raw(session: Path) -> dict[str, Path]:
    """Ray's log files, by their names beside the output."""
    found = (path for path in (session / "logs").rglob("*") if path.is_file())
    return {
        f"{RAW_FOLDER}/{session.name}/{path.relative_to(session / 'logs').as_posix()}": path
        for path in found
        if path.stat().st_size
    }
