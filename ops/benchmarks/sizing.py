"""What a cluster needs for an archive, computed: `python -m ops.benchmarks.sizing`.

The costs of a shard were measured; nothing was run at that size. The speeds of a GPU and of
decoding are assumptions, which `nightscribe bench` and the panel "Decoding" replace by your own.
"""

import sys
from dataclasses import dataclass
from math import ceil

from nightscribe.cluster.packet_plan import BYTES_PER_S, packet_plan
from nightscribe.cluster.resources import Pool
from nightscribe.runs.config import ACTORS_PER_EXECUTOR, ClusterConfig

HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of control_plane.py, on two cores; see the files of its results."""

    executor_ms: float = 0.31  # of CPU a shard; a driver without executors takes the same
    central_ms: float = 0.05  # the driver of a run that has executors
    all_ms: float = 4.75
    puts_a_shard: float = 0.0290
    gets_a_shard: float = 0.0167


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What nobody measured here."""

    times_real_time: float = 2000.0  # a GPU
    decoding: float = 400.0  # times real time, a core
    bytes_a_second: float = 16_000.0  # of the files
    num_slots: int = 256
    busy_share: float = 0.5  # of a core, for a process that must not become the limit
    price_of_1000_puts: float = 0.005  # list price of Amazon S3 in its largest region, in USD
    price_of_1000_gets: float = 0.0004


@dataclass(frozen=True, kw_only=True)
class Archive:
    hours: float
    shard_s: float
    file_s: float
    num_gpus: int


def needs(archive: Archive, measured: Measured, assumed: Assumed) -> dict[str, str]:
    """One line for each thing that is needed."""
    speed = archive.num_gpus * assumed.times_real_time
    rate = speed / archive.shard_s
    num_shards = archive.hours * HOUR_S / archive.shard_s
    cores = speed / assumed.decoding
    scratch_gb = cores / archive.num_gpus * archive.file_s * assumed.bytes_a_second / 1e9
    executor_s = rate * measured.executor_ms / 1000  # of CPU a second
    by_default = ceil(archive.num_gpus / ACTORS_PER_EXECUTOR)
    executors = max(by_default, ceil(executor_s / assumed.busy_share))
    wanted = "" if executors == by_default else f" (`cluster.drivers={executors}`)"
    driver_share = rate * measured.central_ms / 1000
    puts, gets = num_shards * measured.puts_a_shard, num_shards * measured.gets_a_shard
    dollars = (puts * assumed.price_of_1000_puts + gets * assumed.price_of_1000_gets) / 1000
    return {
        "time": f"{archive.hours / speed:.1f} h",
        "shards": f"{num_shards / 1e6:.0f} million, {rate:,.0f} a second",
        "cores that decode": f"{cores:.0f}, {cores / archive.num_gpus:.1f} for each GPU",
        "cores for everything else": f"{rate * measured.all_ms / 1000:.0f}",
        "executors": f"{executors}{wanted}, each busy for {executor_s / executors:.0%} of a core",
        "driver": f"busy for {driver_share:.0%} of a core",
        "reading of files": f"{speed * assumed.bytes_a_second / 1e6:,.0f} MB/s",
        "sound between nodes, if none with a GPU decodes": f"{speed * BYTES_PER_S / 1e6:,.0f} MB/s",
        "object store of Ray for each GPU": f"{in_flight_gb(archive, assumed):.1f} GB",
        "scratch disk for each GPU": f"{scratch_gb:.2f} GB",
        "requests that write, read": f"{puts / 1e6:.2f} million, {gets / 1e6:.2f} million",
        "their price": f"{dollars:.2f} USD",
    }


def in_flight_gb(archive: Archive, assumed: Assumed) -> float:
    """The sound at a transcriber, for shards of one length."""
    pool = Pool(
        num_actors=archive.num_gpus,
        gpus_per_actor=1.0,
        num_audio_workers=archive.num_gpus,
        num_slots=assumed.num_slots,
    )
    total_s, shard_s = archive.hours * HOUR_S, archive.shard_s
    num_shards = ceil(total_s / shard_s)
    plan = packet_plan(ClusterConfig(), pool, num_shards, total_s, shard_s, shard_s)
    return plan.num_calls * plan.packet_s * BYTES_PER_S / 1e9


def limits(measured: Measured, assumed: Assumed) -> list[str]:
    """How many GPUs one process feeds, while it is busy for no more than a share of a core."""
    rows = [
        "| one | shards a second | GPUs, shards of 45 s | GPUs, clips of 10 s |",
        "|---|---|---|---|",
    ]
    for name, cost_ms in (("executor", measured.executor_ms), ("driver", measured.central_ms)):
        rate = assumed.busy_share * 1000 / cost_ms
        gpus = [f"{rate * shard_s / assumed.times_real_time:.0f}" for shard_s in (45.0, 10.0)]
        rows.append(f"| {name} | {rate:,.0f} | {' | '.join(gpus)} |")
    return rows


def table(archives: dict[str, Archive]) -> list[str]:
    columns = {name: needs(one, Measured(), Assumed()) for name, one in archives.items()}
    (first, *_) = columns.values()
    return [
        f"| computed | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(f"| {what} | {' | '.join(one[what] for one in columns.values())} |" for what in first),
    ]


WORKED_EXAMPLE = {
    "long files, shards of 45 s": Archive(
        hours=1_000_000, shard_s=45.0, file_s=3600.0, num_gpus=64
    ),
    "clips of 10 s": Archive(hours=1_000_000, shard_s=10.0, file_s=10.0, num_gpus=64),
}

if __name__ == "__main__":
    lines = [*table(WORKED_EXAMPLE), "", *limits(Measured(), Assumed())]
    sys.stdout.write("\n".join(lines) + "\n")
