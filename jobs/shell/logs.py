"""Logging: text or JSON lines on stderr, and a copy as JSON beside the output."""

import faulthandler
import json
import logging
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

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

STDERR_FD = 2
# From debug to error; fatal errors are passed on.
RAY_MESSAGE = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,]+ [DIWE] \d+ \d+\] ")

log = logging.getLogger(__name__)
native_log = logging.getLogger("nightscribe.ray")


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
        line |= {
            name: value
            for name, value in vars(record).items()
            if name not in _PLAIN and not name.startswith("_")  # those are Ray's
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _StderrHandler(logging.StreamHandler):
    """Writes to what is stderr at the moment: a progress display puts itself in its place."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        """The base class sets it once."""


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
        shown = _StderrHandler()
        shown.setFormatter(JsonLines() if config.format == "json" else logging.Formatter(TEXT))
        shown.setLevel(config.shown)
        if config.level is None:
            shown.addFilter(_concerns_users)
        root.handlers[:] = [shown, stored]
        # On lower levels libraries log their requests, and with them credentials.
        root.setLevel(logging.WARNING)
        logging.getLogger("nightscribe").setLevel(min(logging.INFO, shown.level))
        try:
            with native_messages_logged():
                yield Log(config, Path(folder) / name)
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]
            stored.close()


def _concerns_users(record: logging.LogRecord) -> bool:
    """Ray warns of what it will do by itself; the stored log has it."""
    return not record.name.startswith("ray") or record.levelno >= logging.ERROR


@contextmanager
def native_messages_logged() -> Iterator[None]:
    """Log what Ray's C++ code writes to file descriptor 2 of this process, and pass on the rest.

    It reports as an error that Ray Data keeps the arguments of restartable actors in the object
    store (Ray 2.60), and would write across the progress display.
    """
    if not _is_descriptor(sys.stderr, STDERR_FD):  # captured, or part of another program
        yield
        return
    python_stderr, terminal_fd = sys.stderr, os.dup(STDERR_FD)
    read_fd, write_fd = os.pipe()
    os.dup2(write_fd, STDERR_FD)
    os.close(write_fd)
    sys.stderr = open(  # noqa: SIM115
        terminal_fd, "w", buffering=1, encoding=python_stderr.encoding, errors="backslashreplace"
    )
    faulthandler.enable(sys.stderr)  # a crash ends the thread below, too
    threading.Thread(target=_sort_messages, args=(read_fd, terminal_fd), daemon=True).start()
    try:
        yield
    finally:
        os.dup2(terminal_fd, STDERR_FD)
        sys.stderr = python_stderr
        faulthandler.disable()


def _is_descriptor(file: TextIO, descriptor: int) -> bool:
    try:
        return file.fileno() == descriptor
    except (OSError, ValueError):
        return False


def _sort_messages(read_fd: int, terminal_fd: int) -> None:
    """Until all writers, among them Ray's processes, have closed their end."""
    with open(read_fd, "rb") as messages:
        for line in messages:
            if RAY_MESSAGE.match(line):
                native_log.info(line.decode(errors="replace").rstrip())
            else:
                os.write(terminal_fd, line)


def _raw(session: Path) -> dict[str, Path]:
    """Ray's log files, by their names beside the output."""
    found = (path for path in (session / "logs").rglob("*") if path.is_file())
    return {
        f"{RAW_FOLDER}/{session.name}/{path.relative_to(session / 'logs').as_posix()}": path
        for path in found
        if path.stat().st_size
    }
