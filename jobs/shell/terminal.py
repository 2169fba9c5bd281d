"""The terminal: texts printed as they are, durations, and Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console


def console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """Prints texts as they are: file names may hold brackets, which rich would take for markup.

    With `soft_wrap` the terminal breaks long lines, not rich.
    """
    kind = _AsciiConsole if _is_c_locale() else Console
    return kind(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


class _AsciiConsole(Console):
    """Draws tables and bars in ASCII; texts are printed as they are."""

    @property
    def encoding(self) -> str:
        return "ascii"


def _is_c_locale() -> bool:
    """Whether the locale is C by choice; Python writes UTF-8 in it, which its terminal may lack."""
    named = (os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    return next((name for name in named if name), "") in ("C", "POSIX")


def clock(duration_s: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """The first SIGINT or SIGTERM sets the event; the second raises KeyboardInterrupt."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
