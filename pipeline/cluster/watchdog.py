"""Ends a run that has stalled, and writes where every worker was.

Each worker lets a signal write its stack traces to a file, which needs nothing of Python to be
alive. A small task on each machine signals the workers there and collects the files.
"""

import faulthandler
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nightscribe.errors import NightscribeError
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store

STALLED_KEY = "_run/stalled.txt"
POLL_SHARE, MAX_POLL_S = 0.1, 5.0
ANSWER_S = 30.0
WRITE_S = 60.0
# The time that the driver has to end by itself after a stall was found.
GRACE_S = 60.0
SIGNAL = signal.SIGUSR1
STACKS_FOLDER = "nightscribe-stacks"
# Writing takes a few milliseconds once the kernel has delivered the signal.
SETTLED_S = 0.3
MAX_WRITING_S = 3.0

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

    def __init__(self, store: Store, timeout_s: float, describe: Callable[[], str]) -> None:
        self._store, self._timeout_s, self._describe = store, timeout_s, describe
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
            ("The workers", lambda: stacks_of_cluster(ANSWER_S)),
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
        except (RayError, StorageError) as error:
            log.warning("%s", error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return made[0] if made else None


@cache
def dump_stacks_on_signal() -> BinaryIO:
    """Let this worker write its stack traces when it gets the signal; the file it writes to."""
    folder = _stacks_folder(_run_name())
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*"):
        remove_if_dead(path)
    file = claim(folder / str(os.getpid()))
    faulthandler.register(SIGNAL, file, all_threads=True)
    return file


def stacks_of_cluster(timeout_s: float) -> str:
    """The stack traces of all workers by machine, or that a machine did not answer."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    machine_of_answer = {
        _ask(node["NodeID"]): f"machine {node['NodeManagerAddress']}, node {node['NodeID']}"
        for node in nodes
    }
    ray.wait(list(machine_of_answer), num_returns=len(nodes), timeout=timeout_s)
    return "\n".join(
        f"{machine}\n\n{_answer(answer)}" for answer, machine in machine_of_answer.items()
    )


def stacks_of_this_process() -> str:
    """Those of the driver, where another thread may hang."""
    path = Path(gettempdir()) / f"{STACKS_FOLDER}-{os.getpid()}"
    with path.open("w+b", buffering=0) as file:
        os.unlink(file.name)
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode(errors="replace")


def _ask(node_id: str) -> ray.ObjectRef:
    node = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(_stacks_of_this_machine).options(num_cpus=0, scheduling_strategy=node)
    return task.remote(_run_name())


def _answer(answer: ray.ObjectRef) -> str:
    try:
        return ray.get(answer, timeout=0)
    except RayError as error:
        return f"did not answer: {type(error).__name__}\n"


def _stacks_of_this_machine(run_name: str) -> str:
    """Runs on each machine: the stack traces of all living workers there."""
    stacks = [_stacks_of_worker(path) for path in sorted(_stacks_folder(run_name).glob("*"))]
    return "\n".join(filter(None, stacks)) or "no worker of this run\n"


def _stacks_of_worker(path: Path) -> str:
    """Empty if the worker is dead."""
    if remove_if_dead(path):
        return ""
    with path.open("rb") as file:
        stacks = _signalled(int(path.name), file)
    return f"process {path.name}: {_command(path.name)}\n{stacks}"


def claim(path: Path) -> BinaryIO:
    """A file that belongs to this process while it lives: the kernel releases its lock."""
    while True:
        file = path.open("ab", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        # Another process may have removed the file between the opening and the lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def remove_if_dead(path: Path) -> bool:
    """Whether the worker that claimed the file is dead; if so the file is removed."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
    return True


def _signalled(pid: int, file: BinaryIO) -> str:
    """What a worker writes to its file after the signal."""
    before = file.seek(0, os.SEEK_END)
    os.kill(pid, SIGNAL)
    deadline_s = time.monotonic() + MAX_WRITING_S
    size = before
    while time.monotonic() < deadline_s:
        time.sleep(SETTLED_S)
        size, last = file.seek(0, os.SEEK_END), size
        if size == last > before:
            break
    file.seek(before)
    return file.read().decode(errors="replace") or "did not answer\n"


def _command(pid: str) -> str:
    """The title that Ray gives to the process, which names its task."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def _stacks_folder(run_name: str) -> Path:
    return Path(gettempdir()) / STACKS_FOLDER / run_name


def _run_name() -> str:
    """Distinguishes the workers of this run from those of other runs on the machine."""
    context = ray.get_runtime_context()
    return f"{context.gcs_address.replace(':', '-')}-{context.get_job_id()}"
