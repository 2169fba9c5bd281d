"""Where every worker of a run is at this moment, told even by one that hangs.

Each worker lets the kernel's signal write its stacks to a file, which needs nothing of Python to
be alive. A small task on each machine asks the workers there and brings the files.
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

SIGNAL = signal.SIGUSR1
FOLDER = "nightscribe-stacks"
# Writing takes a few milliseconds once the kernel has delivered the signal.
SETTLED_S = 0.3
MAX_WRITING_S = 3.0


@cache
def answer_with_stacks() -> BinaryIO:
    """Let this worker tell where it is whenever it is asked; the file that it writes to."""
    folder = _folder(_run_name())
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*"):
        remove_if_dead(path)
    file = claim(folder / str(os.getpid()))
    faulthandler.register(SIGNAL, file, all_threads=True)
    return file


def stacks_of_cluster(timeout_s: float) -> str:
    """The stacks of every worker on every machine, or which machine did not answer."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = {
        _ask(node["NodeID"]): f"machine {node['NodeManagerAddress']}, node {node['NodeID']}"
        for node in nodes
    }
    ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
    return "\n".join(f"{where}\n\n{_answer(answer)}" for answer, where in asked.items())


def stacks_of_this_process() -> str:
    """The driver's own; another thread of it may hang."""
    with (Path(gettempdir()) / f"{FOLDER}-{os.getpid()}").open("w+b", buffering=0) as file:
        os.unlink(file.name)
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode(errors="replace")


def _ask(node_id: str) -> ray.ObjectRef:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    asking = ray.remote(_stacks_here).options(num_cpus=0, scheduling_strategy=there)
    return asking.remote(_run_name())


def _answer(answer: ray.ObjectRef) -> str:
    try:
        return ray.get(answer, timeout=0)
    except RayError as error:
        return f"did not answer: {type(error).__name__}\n"


def _stacks_here(run_name: str) -> str:
    """On each machine: of all workers that are alive."""
    told = [_told(path) for path in sorted(_folder(run_name).glob("*"))]
    return "\n".join(filter(None, told)) or "no worker of this run\n"


def _told(path: Path) -> str:
    """What one worker answers; nothing if it is dead."""
    if remove_if_dead(path):
        return ""
    with path.open("rb") as file:
        return f"process {path.name}: {_command(path.name)}\n{_asked(int(path.name), file)}"


def claim(path: Path) -> BinaryIO:
    """A file that is this process's own for as long as it lives: the kernel ends its lock."""
    while True:
        file = path.open("ab", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever removes dead workers' files may have come between the opening and the lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def remove_if_dead(path: Path) -> bool:
    """Whether the worker that had claimed the file lives no more; its file is gone then."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
    return True


def _asked(pid: int, file: BinaryIO) -> str:
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
    """What Ray calls the process, which names the task it works on."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def _folder(run_name: str) -> Path:
    return Path(gettempdir()) / FOLDER / run_name


def _run_name() -> str:
    """Tells this run's workers from those of other runs and other clusters on the machine."""
    context = ray.get_runtime_context()
    return f"{context.gcs_address.replace(':', '-')}-{context.get_job_id()}"
