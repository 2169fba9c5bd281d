"""How large packets are and how many of them an actor works on, so that its slots stay full.

A packet is done when its slowest shard is committed, so what is in flight is counted in seconds
of sound: no slot waits if the packets at its actor hold as much as is transcribed from the arrival
of one until its end (Little's law), however long the shards are and in whatever order they come.
"""

from dataclasses import dataclass
from math import ceil, inf

from nightscribe.cluster.resources import Pool
from nightscribe.cluster.rows import PacketSize
from nightscribe.runs.commits import MAX_OUTCOMES
from nightscribe.runs.config import UNKNOWN_SLOTS, ClusterConfig

BYTES_PER_S = 48_000  # 16 bits at 24 kHz
MIN_SHARDS, MAX_SHARDS = 4, 128
SLOTS_PER_PACKET = 4
# Shards under way in an actor, for each slot. A slot goes through two or three of a second in one
# round; those of the round before are read meanwhile, and those of the next must be there.
SHARDS_PER_SLOT = 6
# For each slot: the longest shard, which its packet waits for, and half of one that is before it.
LONGEST_PER_SLOT = 1.5
# And what a slot of 25 times real time transcribes while a commit is awaited.
COMMITTED_S = 125.0
# Packets of long shards are larger than the average that is planned with. More sound than this is
# in flight only where the longest shards would leave slots empty.
ENOUGH_BYTES = 6 * 2**30
# What is left is divided at least this often, so that actors end together.
PACKETS_PER_ACTOR = 16
MAX_CALLS = 512


@dataclass(frozen=True, slots=True)
class PacketPlan:
    """The size of packets, and the concurrency of an actor that gets them."""

    size: PacketSize
    packet_s: float  # of sound in a full packet
    shards_in_flight: int
    num_calls: int  # packets at an actor


def packet_plan(
    config: ClusterConfig,
    pool: Pool,
    num_left: int,
    left_s: float,
    longest_s: float,
    max_shard_s: float | None,
) -> PacketPlan:
    """For recordings of a total duration that are cut into shards of at most `max_shard_s`."""
    slots = pool.num_slots or UNKNOWN_SLOTS
    longest_s = max(min(max_shard_s or inf, longest_s), 1.0)
    shard_s = max(min(longest_s, left_s / max(num_left, 1)), 1.0)
    num_bytes = int(config.block_mib * 2**20)
    fair = int(left_s / shard_s / (PACKETS_PER_ACTOR * pool.num_actors))
    num_shards = max(min(slots // SLOTS_PER_PACKET, fair, MAX_SHARDS), MIN_SHARDS)
    packet_s = _packet_s(shard_s, num_shards, num_bytes)
    if config.shards_in_flight:
        num_calls = ceil(config.shards_in_flight * shard_s / packet_s)
    else:
        in_flight_s = _in_flight_s(slots, shard_s, longest_s)
        largest_s = _packet_s(longest_s, num_shards, num_bytes)
        enough = max(in_flight_s / largest_s, ENOUGH_BYTES / (largest_s * BYTES_PER_S))
        num_calls = ceil(min(in_flight_s / packet_s, enough))
    return PacketPlan(
        size=PacketSize(num_shards=num_shards, num_bytes=num_bytes, num_first=MIN_SHARDS),
        packet_s=packet_s,
        shards_in_flight=config.shards_in_flight or SHARDS_PER_SLOT * slots,
        num_calls=min(max(num_calls, 2), MAX_CALLS),
    )


def _packet_s(shard_s: float, num_shards: int, num_bytes: int) -> float:
    """The sound in a full packet of shards of this length."""
    return max(min(num_shards, int(num_bytes / (shard_s * BYTES_PER_S))), 1) * shard_s


def _in_flight_s(slots: int, shard_s: float, longest_s: float) -> float:
    """The sound in packets whose shards wait, are transcribed, or wait for others of the packet."""
    committed_s = min(COMMITTED_S * slots, MAX_OUTCOMES * shard_s)
    return LONGEST_PER_SLOT * slots * longest_s + committed_s
