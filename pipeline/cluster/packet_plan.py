"""How large packets are and how many of them an actor works on, so that its slots stay full."""

from dataclasses import dataclass
from math import ceil, inf

from nightscribe.cluster.config import UNKNOWN_SLOTS, ClusterConfig
from nightscribe.cluster.resources import Pool
from nightscribe.cluster.rows import PacketSize

BYTES_PER_S = 48_000  # 16 bits at 24 kHz
MIN_SHARDS, MAX_SHARDS = 4, 128
# A packet is done with its slowest shard. With large packets more shards must be in flight until
# the next packet comes; with single shards few.
SLOTS_PER_PACKET = 4
IN_FLIGHT, SINGLE_IN_FLIGHT = 4.0, 1.5
# What is left is divided at least this often, so that actors end together.
PACKETS_PER_ACTOR = 16
MAX_CALLS = 512
# More packets than this, beyond those that an actor works on, would only hold memory.
PREFETCH = 1.2


@dataclass(frozen=True, slots=True)
class PacketPlan:
    """The size of packets, and the concurrency of an actor that gets them."""

    size: PacketSize
    packet_s: float  # of sound in a full packet
    shards_in_flight: int
    num_calls: int

    @property
    def num_queued(self) -> int:
        """Packets at an actor, with those that wait for a call."""
        return round(PREFETCH * self.num_calls) + 1


def packet_plan(
    config: ClusterConfig, pool: Pool, num_left: int, left_s: float, max_shard_s: float | None
) -> PacketPlan:
    """For recordings of a total duration that are cut into shards of at most `max_shard_s`."""
    slots = pool.num_slots or UNKNOWN_SLOTS
    shard_s = max(min(max_shard_s or inf, left_s / max(num_left, 1)), 1.0)
    num_bytes = int(config.block_mib * 2**20)
    fair = int(left_s / shard_s / (PACKETS_PER_ACTOR * pool.num_actors))
    num_shards = max(min(slots // SLOTS_PER_PACKET, fair, MAX_SHARDS), MIN_SHARDS)
    expected = max(min(num_shards, int(num_bytes / (shard_s * BYTES_PER_S))), 1)
    factor = IN_FLIGHT if expected > 1 else SINGLE_IN_FLIGHT
    in_flight = config.shards_in_flight or ceil(factor * slots)
    return PacketPlan(
        size=PacketSize(num_shards=num_shards, num_bytes=num_bytes, num_first=MIN_SHARDS),
        packet_s=expected * shard_s,
        shards_in_flight=in_flight,
        num_calls=min(max(ceil(in_flight / expected), 2), MAX_CALLS),
    )
