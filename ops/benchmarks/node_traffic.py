"""Bytes that nodes send to each other: `python -m ops.benchmarks.node_traffic [RECORDINGS]`.

Raylets of one machine stand for nodes: each has an object store of its own, and counts what it
sends to others. The real graph runs over made-up recordings of 8 shards, with a reader that makes
sound of real size and a transcriber that answers after a fifth of a second. In one cluster, the
nodes with a GPU decode; in the other, nodes without one do.
"""

import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import ray

from nightscribe.cluster.ray_session import connected
from nightscribe.runs.config import ClusterConfig, RayConfig
from ops.benchmarks.made_up import SHARD_S, made_up, run, workers
from tests.chaos.raylets import Raylets

SHARDS_EACH = 8
ANSWER_S = 0.2
NUM_GPUS = 2
STORE_BYTES = 500 * 2**20
SCRAPED_S = 12.0  # raylets report every few seconds
METRIC = "ray_object_manager_bytes"
LAYOUTS: dict[str, list[dict[str, float]]] = {
    "nodes with a GPU decode": [{"num_gpus": 1.0, "num_cpus": 3.0}] * NUM_GPUS,
    "only nodes without a GPU decode": [
        *[{"num_gpus": 1.0, "num_cpus": 0.5}] * NUM_GPUS,
        *[{"num_gpus": 0.0, "num_cpus": 2.0}] * NUM_GPUS,
    ],
}


def main() -> None:
    num_recordings = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    lines = ["| cluster | sound | between nodes | a hour of sound |", "|---|---|---|---|"]
    lines += [measured(name, num_recordings) for name in LAYOUTS]
    sys.stdout.write("\n".join(lines) + "\n")


def measured(name: str, num_recordings: int) -> str:
    with Raylets(0) as raylets, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for resources in LAYOUTS[name]:
            raylets.join(object_store_memory=STORE_BYTES, **resources)
        with connected(RayConfig(address=raylets.address), ClusterConfig()):
            recordings = made_up(num_recordings, SHARDS_EACH)
            pool = workers(NUM_GPUS, gpus_per_actor=1.0)
            run(Path(folder), recordings, ANSWER_S, lambda progress: None, pool)
            time.sleep(SCRAPED_S)
            sent_mb = sum(sent_bytes()) / 1e6
    hours = num_recordings * SHARDS_EACH * SHARD_S / 3600
    return f"| {name} | {hours:.1f} h | {sent_mb:,.0f} MB | {sent_mb / hours:.1f} MB |"


def sent_bytes() -> Iterator[float]:
    """What each node has sent since it started."""
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        yield from (
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(METRIC) and "Pushed" in line
        )


if __name__ == "__main__":
    main()
