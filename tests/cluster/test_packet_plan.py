"""Packets are large where there is much to do, and enough are in flight to fill the slots."""

import numpy as np
import pytest

from nightscribe.cluster.packet_plan import BYTES_PER_S, ENOUGH_BYTES, packet_plan
from nightscribe.cluster.resources import Pool
from nightscribe.runs.config import ClusterConfig
from tests.cluster.simulated_slots import occupancy

HOUR_S = 3600.0
SPEED = 25.0  # times real time, of one slot: the fastest that the plan is made for


def plan(num_left, mean_s, max_shard_s=60.0, num_slots=256, num_actors=1, longest_s=None, **config):
    pool = Pool(num_actors=num_actors, gpus_per_actor=1.0, num_audio_workers=8, num_slots=num_slots)
    longest_s = longest_s or mean_s
    return packet_plan(
        ClusterConfig(**config), pool, num_left, num_left * mean_s, longest_s, max_shard_s
    )


@pytest.mark.parametrize(
    ("mean_s", "max_shard_s"), [(2.0, 60.0), (10.0, 60.0), (HOUR_S, 60.0), (HOUR_S, 30.0)]
)
def test_packets_of_a_large_run_hold_dozens_of_shards_and_fill_the_slots_twice(mean_s, max_shard_s):
    planned = plan(100_000, mean_s, max_shard_s)
    assert planned.size.num_shards == 64
    shard_s = min(mean_s, max_shard_s)
    in_packet = min(64, planned.size.num_bytes / (shard_s * BYTES_PER_S))
    assert planned.num_calls * int(in_packet) >= 2 * 256
    assert planned.packet_s == pytest.approx(int(in_packet) * shard_s)


MIXES = {
    "equal shards": np.full(8000, 45.0),
    "short clips": np.linspace(1, 3, 8000),
    "clips of two kinds": np.where(np.arange(8000) % 10, 1.0, 45.0),
    "all lengths": np.geomspace(2, 1200, 2000),
    "few long ones": np.linspace(600, 1200, 2000),
}


@pytest.mark.parametrize("num_slots", [8, 32, 256])
@pytest.mark.parametrize("is_sorted", [True, False])
@pytest.mark.parametrize("mix", MIXES)
def test_slots_stay_full_whatever_the_shards_are_like(mix, is_sorted, num_slots):
    lengths_s = np.sort(MIXES[mix])[::-1]
    if not is_sorted:
        lengths_s = np.random.default_rng(0).permutation(lengths_s)
    planned = plan(
        len(lengths_s), lengths_s.mean(), None, num_slots=num_slots, longest_s=lengths_s.max()
    )
    assert occupancy(lengths_s.tolist(), planned, num_slots, SPEED) >= 0.97


def test_clips_hold_no_more_memory_than_shards_of_their_longest_would():
    for num_slots in (32, 256):
        planned = plan(100_000, 5.0, num_slots=num_slots, longest_s=45.0)
        largest_s = min(planned.size.num_shards * 45.0, planned.size.num_bytes / BYTES_PER_S)
        assert planned.num_calls * largest_s * BYTES_PER_S <= 1.1 * ENOUGH_BYTES


def test_a_small_run_is_divided_among_all_actors():
    assert plan(64, 45.0, num_actors=8).size.num_shards == 4
    assert plan(10_000, 45.0, num_actors=64).size.num_shards < 16


@pytest.mark.parametrize("max_shard_s", [10.0, 45.0, 60.0, 1000.0])
def test_a_packet_is_bounded_by_its_bytes(max_shard_s):
    planned = plan(100_000, HOUR_S, max_shard_s)
    assert planned.packet_s * 48_000 <= planned.size.num_bytes == 128 * 2**20


def test_an_engine_of_few_slots_gets_small_packets():
    assert plan(10_000, 45.0, num_slots=8).size.num_shards == 4


def test_the_user_decides_how_much_is_in_flight():
    assert plan(100_000, 10.0, shards_in_flight=64).num_calls == 2
    assert plan(100_000, 10.0, shards_in_flight=3200).num_calls == 50
