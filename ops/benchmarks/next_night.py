"""A large archive of which little is new: what the driver does before the first new shard.

    python -m ops.benchmarks.next_night [RECORDINGS [NEW]]

All but the new recordings have been transcribed by an earlier night. The time counts from the
listing of the archive, which is made up here and asks no store, to the first committed shard; Ray
runs already, as a cluster does. The run goes on until the new recordings are done.
"""

import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.ray_session import connected
from nightscribe.cluster.resources import Pool
from nightscribe.planning import PlanningConfig, plan
from nightscribe.publishing import MAX_RECORDINGS_PER_FILE
from nightscribe.records import Recording
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.config import ClusterConfig, IntervalsConfig, RayConfig
from nightscribe.runs.progress import Progress
from nightscribe.runs.shards import Stages
from nightscribe.storage import parts
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.current_plan import read_current
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import TRANSCRIPTS_FOLDER
from nightscribe.storage.run import Night, begin, index_plan, write_plan
from nightscribe.storage.schema import PARTS_SCHEMA, TRANSCRIPTS_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import write_table
from ops.benchmarks.control_plane import SHARDS_IN_A_MERGED_PART, _with_nulls
from ops.benchmarks.made_up import NUM_SLOTS, Answering, as_it_is, made_up, read

SETTINGS = {"benchmark": True}


def main() -> None:
    num_recordings, num_new = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((1, 1_000_000), (2, 1_000))
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        store = open_store(f"{folder}/out", S3Config())
        earlier_nights(store, Path(folder), num_recordings - num_new)
        with connected(RayConfig(), ClusterConfig()):
            lines = next_night(store, Path(folder), num_recordings)
        sys.stdout.write("\n".join(lines) + "\n")


def earlier_nights(store: Store, folder: Path, num_recordings: int) -> None:
    """Tables and parts in the sizes that a run writes, without words."""
    path = folder / "earlier.parquet"
    write_plan(plan(listed(num_recordings), ContentHasher(), PlanningConfig()), path)
    begin(store, path, SETTINGS)
    names = [name for batch in index_plan(path).batches for name in batch[0].to_pylist()]
    for start in range(0, len(names), MAX_RECORDINGS_PER_FILE):
        some = sorted(names[start : start + MAX_RECORDINGS_PER_FILE])
        given = {"recording_id": some, "revision": [1] * len(some)}
        write_table(store, TRANSCRIPTS_FOLDER, _with_nulls(TRANSCRIPTS_SCHEMA, **given))
    for start in range(0, len(names), SHARDS_IN_A_MERGED_PART):
        some = sorted(names[start : start + SHARDS_IN_A_MERGED_PART])
        given = {"shard_index": [0] * len(some), "is_last": [True] * len(some)}
        table = _with_nulls(PARTS_SCHEMA, recording_id=some, **given)
        write_table(store, parts.folder_of(1), table)


def listed(num_recordings: int) -> Iterator[Recording]:
    """The versions tell them apart, as ETags do."""
    for number, one in enumerate(made_up(num_recordings, 1)):
        yield Recording(
            uri=one.uri, size_bytes=one.size_bytes, version=f"{number:032x}", expected_s=45.0
        )


def next_night(store: Store, folder: Path, num_recordings: int) -> list[str]:
    marks: dict[str, tuple[float, float]] = {}

    def mark(name: str) -> None:
        marks.setdefault(name, (time.time(), time.process_time()))

    def tell(progress: Progress) -> None:
        if progress.num_shards:
            mark("the first new shard is committed")

    mark("begin")
    path = folder / "plan.parquet"
    before = read_current(store, folder)
    mark("the plan of earlier nights is read")
    found = before.unseen(listed(num_recordings))
    write_plan(plan(found, ContentHasher(), PlanningConfig()), path)
    mark("the listing is compared with it")
    transcribe(spec(store, path, Night(compared=before)), pool(), threading.Event(), tell)
    mark("the night has ended")
    (began_s, cpu_s), *_ = marks.values()
    return [
        f"{num_recordings:,} recordings, {before.num_recordings:,} of them transcribed",
        "",
        "| step | s after the beginning | CPU s of the driver |",
        "|---|--:|--:|",
        *(
            f"| {name} | {at_s - began_s:.1f} | {now_s - cpu_s:.1f} |"
            for name, (at_s, now_s) in marks.items()
            if name != "begin"
        ),
        "",
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB",
    ]


def spec(store: Store, path: Path, night: Night) -> RunSpec:
    return RunSpec(
        plan=path,
        settings=SETTINGS,
        stages=Stages(
            read=read,
            make_transcriber=partial(Answering, 0.0),
            output=store.uri("").rstrip("/"),
            s3=S3Config(),
        ),
        examine=as_it_is,
        cluster=ClusterConfig(),
        intervals=IntervalsConfig(commit_s=1.0, publish_s=15.0, retire_s=0.0),
        night=night,
    )


def pool() -> Pool:
    return Pool(
        num_actors=1,
        gpus_per_actor=0.0,
        cpus_per_actor=0.5,
        num_audio_workers=2,
        num_slots=NUM_SLOTS,
    )


if __name__ == "__main__":
    main()
