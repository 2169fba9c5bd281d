"""Where the workers of a stalled run are.

Each worker lets a signal write its stack traces to a file, which needs nothing of Python to be
alive. A small task on each machine signals the workers there and collects the files.
"""

import faulthandler
import fcntl
import os
import signal
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nightscribe.runs.watchdog import STACKS_FOLDER

SIGNAL = signal.SIGUSR1
# Writing takes a few milliseconds once the kernel has delivered the signal.
SETTLED_S = 0.3
MAX_WRITING_S = 3.0


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
