"""What a command logs: lines for people, or JSON for machines, and a copy beside the output."""

import json
import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from nightscribe.storage.errors import StorageError
from nightscribe.storage.logs import publish_logs
from nightscribe.storage.store import Store

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
TEXT = "%(levelname)s %(name)s: %(message)s"
# Ray's own, of every process on the machine of the driver.
RAW_FOLDER = "raw"
PUBLISH_S = 60.0
_PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class LogConfig:
    """What is told on the way."""

    format: str = field(
        default="text", metadata={"help": "lines on stderr: text or json", "choices": FORMATS}
    )
    level: str | None = field(
        default=None,
        metadata={
            "help": "least important line shown; null: warning as text, info as json",
            "choices": LEVELS,
        },
    )
    publish: bool = field(
        default=True, metadata={"help": "keep a log of the driver, as JSON, beside the output"}
    )
    raw: bool = field(
        default=False,
        metadata={"help": "keep Ray's own logs of the driver's machine there, too"},
    )

    def __post_init__(self) -> None:
        for name, choices in (("format", FORMATS), ("level", (None, *LEVELS))):
            if getattr(self, name) not in choices:
                told = ", ".join(filter(None, choices))
                raise ValueError(f"log.{name} is one of {told}, not {getattr(self, name)}")

    @property
    def shown(self) -> str:
        """The level of stderr, as logging names it."""
        return (self.level or ("info" if self.format == "json" else "warning")).upper()


class JsonLines(logging.Formatter):
    """A record as one line of JSON, with whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


@dataclass(slots=True)
class Log:
    """The log of one attempt while it is being written."""

    config: LogConfig
    path: Path
    _published_at_s: float | None = None  # None: nobody has begun to work yet

    def publish_when_due(self, store: Store, session: Path | None) -> None:
        """Publish now and then; called again and again by whoever holds the lease."""
        if self._published_at_s is None:
            self._published_at_s = time.monotonic()
        if time.monotonic() - self._published_at_s > PUBLISH_S:
            self.publish(store, session)

    def publish(self, store: Store, session: Path | None) -> None:
        """Put it beside the output, unless that is another's; trouble with it ends no run."""
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
    """Log as configured, to stderr and to a file for as long as the block lasts."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{moment}-{socket.gethostname()}-{os.getpid()}.jsonl"
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    with tempfile.TemporaryDirectory(prefix="nightscribe-log-") as folder:
        kept = logging.FileHandler(Path(folder) / name)
        kept.setFormatter(JsonLines())
        shown = logging.StreamHandler(sys.stderr)
        shown.setFormatter(JsonLines() if config.format == "json" else logging.Formatter(TEXT))
        shown.setLevel(config.shown)
        root.handlers[:] = [shown, kept]
        # Libraries tell of their requests, and those of keys, on lower levels.
        root.setLevel(logging.WARNING)
        logging.getLogger("nightscribe").setLevel(min(logging.INFO, shown.level))
        try:
            yield Log(config, Path(folder) / name)
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]
            kept.close()


def _raw(session: Path) -> dict[str, Path]:
    """Ray's logs by the names they get beside the output."""
    found = (path for path in (session / "logs").rglob("*") if path.is_file())
    return {
        f"{RAW_FOLDER}/{session.name}/{path.relative_to(session / 'logs').as_posix()}": path
        for path in found
        if path.stat().st_size
    }
