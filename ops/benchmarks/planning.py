"""What the driver does with a million recordings before the first of them is read.

    python -m ops.benchmarks.planning [RECORDINGS]

The objects of a store, already listed, become a plan, a run and the rows that workers are handed.
The memory is the most that the process has held by the end of a step.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path

from nightscribe.cluster.read_tasks import task_ends
from nightscribe.planning import PlanningConfig, plan
from nightscribe.publishing import Publisher
from nightscribe.records import Recording
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.run import begin, index_plan, write_plan

# One in a hundred objects has the bytes of the one before it.
COPY_EVERY = 100
# Of recordings with the sizes below.
MEAN_S = 1568.0
NUM_DECODERS, PACKET_S = 64, 2700.0


def main() -> None:
    num_recordings = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        sys.stdout.write("\n".join(planning(Path(folder), num_recordings)) + "\n")


def planning(folder: Path, num_recordings: int) -> Iterator[str]:
    path, store = folder / "plan.parquet", open_store(str(folder / "out"), S3Config())
    before_mib = most_mib()

    def write() -> None:
        found = objects(num_recordings)
        write_plan(plan(found, ContentHasher(), PlanningConfig()), path)

    def hand_out() -> None:
        publisher = Publisher(store, lambda: None, {}, lambda transcript: transcript)
        for batch in index_plan(path).batches:
            publisher.are_published(batch["recording_id"].to_pylist())
            task_ends(batch["estimated_s"].to_numpy(), NUM_DECODERS, PACKET_S)

    steps: dict[str, Callable[[], object]] = {
        "planned and written": write,
        "stored with the run": lambda: begin(store, path, {}),
        "indexed": lambda: index_plan(path),
        "divided into tasks": hand_out,
    }
    rows = [step_row(name, step) for name, step in steps.items()]
    yield f"{num_recordings:,} objects, a plan of {path.stat().st_size / 2**20:.0f} MiB"
    yield ""
    yield "| step | processor s | most memory MiB |"
    yield "|---|---|---|"
    yield f"| modules loaded | | {before_mib:.0f} |"
    yield from rows


def objects(num_recordings: int) -> Iterator[Recording]:
    """As an object store lists them: keys in order, sizes, ETags."""
    for number in range(num_recordings):
        is_copy = number % COPY_EVERY == COPY_EVERY - 1
        etag = md5(str(number - is_copy).encode()).hexdigest()
        yield Recording(
            uri=f"s3://archive/{number // 10_000:03d}/{number:07d}.mp3",
            size_bytes=100_000 + 7919 * (number - is_copy) % 50_000_000,
            version=etag,
        )


def step_row(name: str, step: Callable[[], object]) -> str:
    began_s = time.process_time()
    step()
    return f"| {name} | {time.process_time() - began_s:.1f} | {most_mib():.0f} |"


def most_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
