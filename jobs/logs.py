"""What a command logs: lines for people, or JSON for machines, and a copy beside the output."""

import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline.storage.errors import StorageError
from pipeline.storage.logs import publish_logs
from pipeline.storage.store import Store

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
TEXT = "%(levelname)s %(name)s: %(message)s"
# Ray's own, of every process on the machine of the driver.
RAW_FOLDER = "raw"
_PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class LogConfig:
    """What is told on the way."""

    format: str = field(
        default="text", metadata={"help": "lines on stderr: text or json", "choices": FORMATS}
    )
    level: str = field(
        default="warning", metadata={"help": "least important line shown", "choices": LEVELS}
    )
    publish: bool = field(
        default=True, metadata={"help": "keep a log of the driver, as JSON, beside the output"}
    )
    raw: bool = field(
        default=False,
        metadata={"help": "keep Ray's own logs of the driver's machine there, too"},
    )

    def __post_init__(self) -> None:
        for name, choices in (("format", FORMATS), ("level", LEVELS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"log.{name} is one of {', '.join(choices)}, not {getattr(self, name)}"
                )


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


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one attempt while it is being written."""

    config: LogConfig
    name: str
    path: Path

    def publish(self, store: Store, session: Path | None) -> None:
        """Put it beside the output; what goes wrong with that ends no run."""
        if not self.config.publish:
            return
        files = {self.name: self.path}
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
        shown.setLevel(config.level.upper())
        root.handlers[:] = [shown, kept]
        # Libraries tell of their requests, and those of keys, on lower levels.
        root.setLevel(logging.WARNING)
        for ours in ("pipeline", "jobs"):
            logging.getLogger(ours).setLevel(min(logging.INFO, shown.level))
        try:
            yield Log(config, name, Path(folder) / name)
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
