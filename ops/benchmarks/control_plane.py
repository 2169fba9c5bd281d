"""What a shard costs beside decoding and the engine: CPU time by class of process.

    python -m ops.benchmarks.control_plane shards [RECORDINGS [SHARDS_EACH [ANSWER_S [EXECUTORS]]]]
    python -m ops.benchmarks.control_plane start [RECORDINGS]
    python -m ops.benchmarks.control_plane resume [RECORDINGS]
    python -m ops.benchmarks.control_plane requests [RECORDINGS [SHARDS_EACH [ANSWER_S]]]

shards: the real graph over made-up recordings of some shards of 45 s each, with 120 words in every
answer, which comes at once or after ANSWER_S. What happens before the first fifth of the shards is
committed does not count.
start: from the plan of many recordings to the first shard in the engine, and to the first that is
committed; the run is stopped then, and the time until it has ended is measured too.
resume: what a driver does before it starts the graph, when all but a hundredth of the recordings
are finished.
requests: what a run asks of an object store, counted by a proxy before a real server.
"""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa

from nightscribe.cluster.execution import Execution
from nightscribe.cluster.publish_tasks import DirectWriter
from nightscribe.cluster.ray_session import connected
from nightscribe.publishing import MAX_RECORDINGS_PER_FILE, Publisher
from nightscribe.runs.config import ClusterConfig, RayConfig
from nightscribe.runs.progress import Progress
from nightscribe.storage import parts
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import FAILURES_FOLDER, TRANSCRIPTS_FOLDER
from nightscribe.storage.run import begin, index_plan, write_plan
from nightscribe.storage.schema import PARTS_SCHEMA, TRANSCRIPTS_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import write_table
from ops.benchmarks.cpu_by_process import CpuSamples, cpu_sampled
from ops.benchmarks.made_up import FIRST_CLIP, as_it_is, made_up, planned, run, workers
from tests.chaos.faulty_s3 import Faults, FaultyS3
from tests.s3_server import S3Server

SKIPPED_SHARE = 0.2
WORK_FOLDERS = (parts.FOLDER, TRANSCRIPTS_FOLDER, FAILURES_FOLDER, "voices")
SHARDS_IN_A_MERGED_PART = 32_768


def main() -> None:
    what, *numbers = sys.argv[1:]
    if what == "restore":
        sys.stdout.write("\n".join(restore(Path(numbers[0]))) + "\n")
        return
    run = {"shards": shards, "start": start, "resume": resume, "requests": requests}[what]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        lines = run(Path(folder), *map(float, numbers))
        sys.stdout.write("\n".join(lines) + "\n")


def shards(
    folder: Path,
    num_recordings: float = 500,
    shards_each: float = 8,
    answer_s: float = 0.0,
    executors: float = 1,
) -> list[str]:
    """The cost of a shard in each class of process, in CPU milliseconds."""
    recordings = made_up(int(num_recordings), int(shards_each))
    marks: list[tuple[float, int]] = []
    with cpu_sampled(folder / "cpu.jsonl") as samples, connected(RayConfig(), ClusterConfig()):
        began_s = time.time()
        run(
            folder,
            recordings,
            answer_s,
            lambda progress: marks.append((time.time(), progress.num_shards)),
            workers(int(executors)),
            num_executors=int(executors),
        )
    return _table(marks, samples, began_s)


def start(folder: Path, num_recordings: float = 1_000_000) -> list[str]:
    path = folder / "plan.parquet"
    write_plan(planned(int(num_recordings)), path)
    marks: list[float] = []
    stop = threading.Event()

    def tell(progress: Progress) -> None:
        if progress.num_shards and not marks:
            marks.append(time.time())
            stop.set()

    with connected(RayConfig(), ClusterConfig()):
        began_s = time.time()
        progress = run(folder, path, 0.0, tell, workers(), stop=stop)
    ended_s = time.time()
    return [
        f"{int(num_recordings):,} recordings: the first shard was in the engine after "
        f"{(folder / FIRST_CLIP).stat().st_mtime - began_s:.1f} s and committed after "
        f"{marks[0] - began_s:.1f} s; then the run was stopped and had ended after "
        f"{ended_s - marks[0]:.1f} s with {progress.num_shards} shards",
        f"peak memory of the driver {_peak_mib():.0f} MiB",
    ]


def resume(folder: Path, num_recordings: float = 1_000_000) -> list[str]:
    path, store = folder / "plan.parquet", open_store(str(folder / "out"), S3Config())
    write_plan(planned(int(num_recordings)), path)
    begin(store, path, {"benchmark": True})
    names = [name for batch in index_plan(path).batches for name in batch[0].to_pylist()]
    done = names[: int(0.99 * num_recordings)]
    _finished(store, done)
    # In a process of its own, whose memory nothing else has touched.
    command = [sys.executable, "-m", "ops.benchmarks.control_plane", "restore", str(folder)]
    took = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [f"{len(done):,} of {len(names):,} recordings are finished", *took]


def restore(folder: Path) -> list[str]:
    path, store = folder / "plan.parquet", open_store(str(folder / "out"), S3Config())
    before_mib = _peak_mib()
    began_s, cpu_s = time.time(), time.process_time()
    begin(store, path, {"benchmark": True})
    index = index_plan(path)
    publisher = Publisher(store, lambda: None, index.duplicates, as_it_is)
    publisher.restore()
    progress = Progress(run_id="r", num_recordings=index.num_recordings, estimated_s=0.0)
    execution = Execution(publisher, index, progress, DirectWriter(store, lambda: None))
    num_left = execution.num_left()
    return [
        f"{num_left:,} are left after {time.time() - began_s:.1f} s, "
        f"{time.process_time() - cpu_s:.1f} s of CPU; peak memory {_peak_mib():.0f} MiB, "
        f"{before_mib:.0f} MiB of it modules"
    ]


def requests(
    folder: Path, num_recordings: float = 2000, shards_each: float = 1, answer_s: float = 2.0
) -> list[str]:
    with S3Server() as server, FaultyS3(server.port, Faults(0.0)) as proxy:
        os.environ.update(server.environment)
        output, s3 = f"s3://{server.new_bucket()}/out", S3Config(endpoint=proxy.endpoint)
        recordings = made_up(int(num_recordings), int(shards_each))
        with connected(RayConfig(), ClusterConfig()):
            began_s = time.time()
            progress = run(folder, recordings, answer_s, _ignore, workers(), output=output, s3=s3)
        took_s = time.time() - began_s
        asked = proxy.faults.requests
    head = f"{progress.num_shards} shards of {progress.num_done} recordings in {took_s:.0f} s"
    return [head, "", *_requests_table(asked, progress.num_shards)]


def _requests_table(asked: Counter[tuple[str, str]], num_shards: int) -> list[str]:
    """By kind; those for shards and tables grow with the shards, the others with time."""
    rows = [
        "| request | number | a shard | for shards and tables | a shard |",
        "|---|---|---|---|---|",
    ]
    for kind in sorted({kind for kind, _ in asked}):
        of_kind = {folder: n for (one, folder), n in asked.items() if one == kind}
        both = sum(of_kind.values()), sum(of_kind.get(folder, 0) for folder in WORK_FOLDERS)
        cells = " | ".join(f"{n} | {n / num_shards:.4f}" for n in both)
        rows.append(f"| {kind} | {cells} |")
    return rows


def _ignore(progress: Progress) -> None:
    pass


def _finished(store: Store, names: list[str]) -> None:
    """Tables and parts in the sizes that a run writes, without words."""
    for start in range(0, len(names), MAX_RECORDINGS_PER_FILE):
        some = sorted(names[start : start + MAX_RECORDINGS_PER_FILE])
        published = _with_nulls(TRANSCRIPTS_SCHEMA, recording_id=some, revision=[1] * len(some))
        write_table(store, TRANSCRIPTS_FOLDER, published)
    for start in range(0, len(names), SHARDS_IN_A_MERGED_PART):
        some = sorted(names[start : start + SHARDS_IN_A_MERGED_PART])
        first, last = [0] * len(some), [True] * len(some)
        table = _with_nulls(PARTS_SCHEMA, recording_id=some, shard_index=first, is_last=last)
        write_table(store, parts.folder_of(1), table)


def _with_nulls(schema: pa.Schema, **columns: list) -> pa.Table:
    size = len(columns["recording_id"])
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(size, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema)


def _table(marks: list[tuple[float, int]], samples: CpuSamples, began_s: float) -> list[str]:
    num_shards = marks[-1][1]
    first = next(mark for mark in marks if mark[1])
    start = next(mark for mark in marks if mark[1] >= SKIPPED_SHARE * num_shards)
    end = next(mark for mark in marks if mark[1] == num_shards)
    spent, contention = samples.between(start[0], end[0])
    counted = end[1] - start[1]
    milliseconds: Counter[str] = Counter()
    for kind, cpu_s in spent.items():
        milliseconds[kind.partition(":")[0]] += 1000 * cpu_s / counted
        if kind.startswith("driver: "):
            milliseconds[kind] += 1000 * cpu_s / counted
    whole = sum(value for kind, value in milliseconds.items() if not kind.startswith("driver: "))
    return [
        f"{num_shards} shards, {counted} of them counted, "
        f"{counted / (end[0] - start[0]):.0f} a second, contention {contention:.2f}",
        f"the first one was committed after {first[0] - began_s:.1f} s, the last one after "
        f"{end[0] - began_s:.1f} s; peak memory of the driver {_peak_mib():.0f} MiB",
        "",
        "| process | CPU ms a shard | without contention |",
        "|---|---|---|",
        *(
            f"| {kind} | {value:.2f} | {value / contention:.2f} |"
            for kind, value in sorted(milliseconds.items(), key=_by_class)
            if value >= 0.005
        ),
        f"| all | {whole:.2f} | {whole / contention:.2f} |",
    ]


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _by_class(item: tuple[str, float]) -> tuple[str, float]:
    kind, value = item
    return ("driver" if kind.startswith("driver") else "~" + kind, -value)


if __name__ == "__main__":
    main()
