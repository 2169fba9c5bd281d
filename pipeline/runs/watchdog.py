"""Ends a run that has stalled, and writes where this process and every worker was."""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import TypeVar

from nightscribe.errors import NightscribeError
from nightscribe.storage.store import Store

STALLED_KEY = "_run/stalled.txt"
POLL_SHARE, MAX_POLL_S = 0.1, 5.0
ANSWER_S = 30.0
WRITE_S = 60.0
# The time that the driver has to end by itself after a stall was found.
GRACE_S = 60.0
STACKS_FOLDER = "nightscribe-stacks"

Made = TypeVar("Made")

log = logging.getLogger(__name__)


class StalledError(NightscribeError):
    """Nothing was finished for too long; what is committed is safe."""

    fault = "environment"


class Watchdog:
    """`with Watchdog(...) as watchdog:`; call `check` with a mark of progress, which may raise.

    A driver that hangs and never calls `check` is ended too: by a thread that needs nothing of
    Python, some time after the timeout.
    """

    def __init__(
        self,
        store: Store,
        timeout_s: float,
        describe: Callable[[], str],
        stacks_of_workers: Callable[[float], str],
    ) -> None:
        """`stacks_of_workers` gets the time that workers have to answer."""
        self._store, self._timeout_s, self._describe = store, timeout_s, describe
        self._stacks_of_workers = stacks_of_workers
        self._mark: object = None
        self._moved_at_s = time.monotonic()
        self._stalled: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._stalled is None:
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def check(self, mark: object) -> None:
        """A mark that differs from the last one is progress; raises StalledError after a stall."""
        if mark != self._mark:
            self._mark, self._moved_at_s = mark, time.monotonic()
        if self._stalled is not None:
            raise StalledError(self._stalled)

    def _watch(self) -> None:
        poll_s = min(self._timeout_s * POLL_SHARE, MAX_POLL_S)
        while not self._ended.wait(poll_s):
            silent_s = time.monotonic() - self._moved_at_s
            exit_later(2 * self._timeout_s + ANSWER_S + WRITE_S + GRACE_S)
            if silent_s > self._timeout_s and self._has_stalled(silent_s):
                exit_later(GRACE_S)
                return

    def _has_stalled(self, silent_s: float) -> bool:
        """Write where the run stands, unless it moves while the workers are asked."""
        moved_at_s = self._moved_at_s
        sentence = self._write_report(silent_s)
        if self._moved_at_s != moved_at_s:
            log.warning("the run moves again, but %s", sentence)
            return False
        self._stalled = sentence
        return True

    def _write_report(self, silent_s: float) -> str:
        problem = f"nothing was finished for {silent_s:.0f} s"
        text = "\n".join([problem, "", *self._sections()])
        is_written = _in_time(lambda: self._write(text), WRITE_S)
        if not is_written:
            log.error("%s", text)
        place = self._store.uri(STALLED_KEY) if is_written else "the log"
        return f"{problem}; {place} shows where each worker was; run the same command to resume"

    def _sections(self) -> list[str]:
        sections = (
            ("The run", self._describe),
            ("The driver", stacks_of_this_process),
            ("The workers", lambda: self._stacks_of_workers(ANSWER_S)),
        )
        return [
            f"{title}\n{'=' * len(title)}\n\n{_in_time(make, 2 * ANSWER_S) or 'no answer'}\n"
            for title, make in sections
        ]

    def _write(self, text: str) -> bool:
        self._store.write(STALLED_KEY, text.encode())
        return True


def exit_later(after_s: float) -> None:
    """Exit with the stack traces on stderr, unless this is called again or cancelled before."""
    faulthandler.dump_traceback_later(after_s, exit=True, file=sys.__stderr__ or sys.stderr)


def _in_time(make: Callable[[], Made], timeout_s: float) -> Made | None:
    """What `make` returns, or None if it fails or takes too long."""
    made: list[Made] = []

    def attempt() -> None:
        try:
            made.append(make())
        except Exception as error:  # of a store or of a cluster that does not answer
            log.warning("%s", error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return made[0] if made else None


def stacks_of_this_process() -> str:
    """Those of the driver, where another thread may hang."""
    path = Path(gettempdir()) / f"{STACKS_FOLDER}-{os.getpid()}"
    with path.open("w+b", buffering=0) as file:
        os.unlink(file.name)
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode(errors="replace")
