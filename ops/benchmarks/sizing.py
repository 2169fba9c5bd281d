"""What a cluster needs for an archive, computed: `python -m ops.benchmarks.sizing`.

The costs of a shard were measured; nothing was run at that size. The speeds of a GPU and of
decoding are assumptions, which `nightscribe bench` and the panel "Decoding" replace by your own.
"""

import sys
from dataclasses import dataclass
from math import ceil

from nightscribe.cluster.config import ACTORS_PER_EXECUTOR
from nightscribe.cluster.packet_plan import BYTES_PER_S, IN_FLIGHT, PREFETCH

HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of control_plane.py, on two cores; see the file of its results."""

    driver_ms: float = 0.37  # of CPU a shard
    all_ms: float = 4.10
    puts_a_shard: float = 0.0240
    gets_a_shard: float = 0.0200


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What nobody measured here."""

    times_real_time: float = 2000.0  # a GPU
    decoding: float = 400.0  # times real time, a core
    bytes_a_second: float = 16_000.0  # of the files
    num_slots: int = 256
    price_of_1000_puts: float = 0.005  # list price of Amazon S3 in its largest region, in USD
    price_of_1000_gets: float = 0.0004


@dataclass(frozen=True, kw_only=True)
class Archive:
    hours: float
    shard_s: float
    num_gpus: int


def needs(archive: Archive, measured: Measured, assumed: Assumed) -> dict[str, str]:
    """One line for each thing that is needed."""
    speed = archive.num_gpus * assumed.times_real_time
    rate = speed / archive.shard_s
    num_shards = archive.hours * HOUR_S / archive.shard_s
    cores = speed / assumed.decoding
    executors = ceil(archive.num_gpus / ACTORS_PER_EXECUTOR)
    driver_share = rate * measured.driver_ms / 1000 / executors
    in_flight_gb = IN_FLIGHT * PREFETCH * assumed.num_slots * archive.shard_s * BYTES_PER_S / 1e9
    puts, gets = num_shards * measured.puts_a_shard, num_shards * measured.gets_a_shard
    dollars = (puts * assumed.price_of_1000_puts + gets * assumed.price_of_1000_gets) / 1000
    return {
        "time": f"{archive.hours / speed:.1f} h",
        "shards": f"{num_shards / 1e6:.0f} million, {rate:,.0f} a second",
        "cores that decode": f"{cores:.0f}, {cores / archive.num_gpus:.1f} for each GPU",
        "cores for everything else": f"{rate * measured.all_ms / 1000:.0f}",
        "executors": f"{executors}, each busy for {driver_share:.0%} of a core",
        "reading of files": f"{speed * assumed.bytes_a_second / 1e6:,.0f} MB/s",
        "sound between nodes, if none with a GPU decodes": f"{speed * BYTES_PER_S / 1e6:,.0f} MB/s",
        "object store of Ray for each GPU": f"{in_flight_gb:.1f} GB",
        "requests that write, read": f"{puts / 1e6:.2f} million, {gets / 1e6:.2f} million",
        "their price": f"{dollars:.2f} USD",
    }


def table(archives: dict[str, Archive]) -> list[str]:
    columns = {name: needs(one, Measured(), Assumed()) for name, one in archives.items()}
    (first, *_) = columns.values()
    return [
        f"| computed | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(f"| {what} | {' | '.join(one[what] for one in columns.values())} |" for what in first),
    ]


WORKED_EXAMPLE = {
    "long files, shards of 45 s": Archive(hours=1_000_000, shard_s=45.0, num_gpus=64),
    "clips of 10 s": Archive(hours=1_000_000, shard_s=10.0, num_gpus=64),
}

if __name__ == "__main__":
    sys.stdout.write("\n".join(table(WORKED_EXAMPLE)) + "\n")
