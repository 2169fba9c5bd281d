"""Several raylets on this machine as a stand-in for several nodes, and ways to lose them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

from ray.cluster_utils import Cluster
from tenacity import retry, stop_after_attempt

ROOT = Path(__file__).parent.parent.parent
# Every process that a cluster starts inherits it, so that those that outlive it are found.
MARK = "NIGHTSCRIBE_TEST_CLUSTER"
OBJECT_STORE_BYTES = 100 * 2**20
DRAIN_S = 2


class Raylets:
    """`with Raylets(3) as raylets:` a head without CPUs, and nodes with a few each."""

    def __init__(self, num_nodes: int, cpus_each: int = 2, **environment: str) -> None:
        self._num_nodes, self._cpus_each = num_nodes, cpus_each
        self._token = token_hex(8)
        self._folder = mkdtemp(prefix="ns-")  # short: Ray names sockets after it
        self._environment = {
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": self._folder,
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            MARK: self._token,
            **environment,
        }

    def __enter__(self) -> "Raylets":
        self._before = dict(os.environ)
        os.environ.update(self._environment)
        os.environ.pop("RAY_ADDRESS", None)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        os.environ.clear()
        os.environ.update(self._before)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """A head and its nodes; after `end`, other ones."""
        self._cluster = Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            },
        )
        self.nodes = []
        for _ in range(self._num_nodes):
            self.join()

    def end(self) -> None:
        """Kill whatever runs for this cluster, at once."""
        for _ in range(3):
            for pid in self.processes():
                kill(pid)
            time.sleep(0.1)

    @property
    def address(self) -> str:
        return self._cluster.address

    @retry(stop=stop_after_attempt(5), reraise=True)
    def join(self, **resources: float) -> None:
        """One more node; on a busy machine Ray sometimes gives up waiting for it."""
        node = self._cluster.add_node(
            **{"num_cpus": self._cpus_each, "object_store_memory": OBJECT_STORE_BYTES, **resources}
        )
        self.nodes.append(node)

    def lose(self, index: int) -> None:
        """Kill a node's raylet; its workers find themselves alone and end."""
        self._cluster.remove_node(self.nodes.pop(index), allow_graceful=False)

    def drain(self, index: int) -> None:
        """Tell the cluster that a node leaves, as a spot instance is told, and let it leave."""
        words = [
            *[sys.executable, "-m", "ray.scripts.scripts", "drain-node"],
            *["--address", self.address, "--node-id", self.nodes[index].node_id],
            *["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"],
            *["--deadline-remaining-seconds", str(DRAIN_S)],
        ]
        subprocess.run(words, check=True, capture_output=True, timeout=60)

    def workers(self, task: str) -> list[int]:
        """The processes that work on something of that name just now."""
        return sorted(pid for pid in self.processes() if task in command_of(pid))

    def processes(self) -> Iterator[int]:
        """Everything alive that descends from this cluster."""
        mark = f"{MARK}={self._token}"
        for entry in Path("/proc").glob("[0-9]*"):
            pid = int(entry.name)
            if pid != os.getpid() and mark in environment_of(pid) and command_of(pid):
                yield pid


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def command_of(pid: int) -> str:
    return _text(Path(f"/proc/{pid}/cmdline"))


def parent_of(pid: int) -> int:
    """For a worker, its raylet; 0 if it is gone."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def environment_of(pid: int) -> str:
    return _text(Path(f"/proc/{pid}/environ"))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
