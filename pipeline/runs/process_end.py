"""How a process ends of which threads are still at work: at once, and with the right code."""

import logging
import os
import sys
from dataclasses import dataclass
from typing import NoReturn


@dataclass(slots=True)
class _Threads:
    """Whether a run broke off, with threads of Ray or of an engine that are still at work."""

    are_abandoned: bool = False


_threads = _Threads()


def abandon_threads() -> None:
    """From now on `exit_process` waits for no thread and lets none of them run on."""
    _threads.are_abandoned = True


def exit_process(code: int) -> NoReturn:
    """End this process with that code, whatever threads do at the moment.

    Ray's client ends a process with code 1 when it is used while its raylet stops, and exiting in
    the usual way stops the raylet first. An engine in its native code aborts a process whose
    interpreter is gone. A Ray that was started here ends with this process.
    """
    if _threads.are_abandoned:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
