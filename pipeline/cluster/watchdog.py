"""Ends a run that stands still, and says where it stood."""

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ray.exceptions import RayError

from nightscribe.cluster.stack_dump import stacks_of_cluster, stacks_of_this_process
from nightscribe.errors import NightscribeError
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store

STALLED_KEY = "_run/stalled.txt"
POLL_SHARE, MAX_POLL_S = 0.1, 5.0
ANSWER_S = 30.0
WRITE_S = 60.0
# How long the driver may take to end by itself once it is told to.
GRACE_S = 60.0

Made = TypeVar("Made")

log = logging.getLogger(__name__)


class StalledError(NightscribeError):
    """Nothing was finished for too long; what is committed is safe."""

    fault = "environment"


class Watchdog:
    """`with Watchdog(...) as watchdog:`; show it signs of progress, and let it raise.

    A driver that hangs, and so never asks, is ended all the same: by a thread that needs nothing
    of Python, some time after it should have moved or ended.
    """

    def __init__(self, store: Store, patience_s: float, tell: Callable[[], str]) -> None:
        self._store, self._patience_s, self._tell = store, patience_s, tell
        self._sign: object = None
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

    def see(self, sign: object) -> None:
        """Another sign than the last one is progress; raises StalledError if none came."""
        if sign != self._sign:
            self._sign, self._moved_at_s = sign, time.monotonic()
        if self._stalled is not None:
            raise StalledError(self._stalled)

    def _watch(self) -> None:
        poll_s = min(self._patience_s * POLL_SHARE, MAX_POLL_S)
        while not self._ended.wait(poll_s):
            silent_s = time.monotonic() - self._moved_at_s
            end_for_sure(2 * self._patience_s + ANSWER_S + WRITE_S + GRACE_S)
            if silent_s > self._patience_s and self._is_over(silent_s):
                end_for_sure(GRACE_S)
                return

    def _is_over(self, silent_s: float) -> bool:
        """Say where the run stands, unless it moves while everybody is asked."""
        moved_at_s = self._moved_at_s
        sentence = self._say_where(silent_s)
        if self._moved_at_s != moved_at_s:
            log.warning("it goes on, but %s", sentence)
            return False
        self._stalled = sentence
        return True

    def _say_where(self, silent_s: float) -> str:
        what = f"nothing was finished for {silent_s:.0f} s"
        text = "\n".join([what, "", *self._sections()])
        is_written = _in_time(lambda: self._write(text), WRITE_S)
        if not is_written:
            log.error("%s", text)
        where = self._store.uri(STALLED_KEY) if is_written else "the log"
        return f"{what}; {where} tells where every worker stood; run the command again"

    def _sections(self) -> list[str]:
        found = (
            ("The run", self._tell),
            ("The driver", stacks_of_this_process),
            ("The workers", lambda: stacks_of_cluster(ANSWER_S)),
        )
        return [
            f"{title}\n{'=' * len(title)}\n\n{_in_time(make, 2 * ANSWER_S) or 'no answer'}\n"
            for title, make in found
        ]

    def _write(self, text: str) -> bool:
        self._store.write(STALLED_KEY, text.encode())
        return True


def end_for_sure(after_s: float) -> None:
    """Exit with the stacks on stderr unless this is called again, or called off, before."""
    faulthandler.dump_traceback_later(after_s, exit=True, file=sys.__stderr__ or sys.stderr)


def _in_time(make: Callable[[], Made], timeout_s: float) -> Made | None:
    """What is made, or nothing if that fails or takes too long."""
    made: list[Made] = []

    def attempt() -> None:
        try:
            made.append(make())
        except (RayError, StorageError) as error:
            log.warning("%s", error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return made[0] if made else None
