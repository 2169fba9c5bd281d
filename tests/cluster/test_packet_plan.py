"""Packets are large where there is much to do, and enough are in flight to fill the slots."""

import pytest

from nightscribe.cluster.config import ClusterConfig
from nightscribe.cluster.packet_plan import packet_plan
from nightscribe.cluster.resources import Pool

HOUR_S = 3600.0


def plan(num_left, mean_s, max_shard_s=60.0, num_slots=256, num_actors=1, **config):
    pool = Pool(num_actors=num_actors, gpus_per_actor=1.0, num_audio_workers=8, num_slots=num_slots)
    return packet_plan(ClusterConfig(**config), pool, num_left, num_left * mean_s, max_shard_s)


@pytest.mark.parametrize(
    ("mean_s", "max_shard_s"), [(2.0, 60.0), (10.0, 60.0), (HOUR_S, 60.0), (HOUR_S, 30.0)]
)
def test_packets_of_a_large_run_hold_dozens_of_shards_and_fill_the_slots_twice(mean_s, max_shard_s):
    planned = plan(100_000, mean_s, max_shard_s)
    assert planned.size.num_shards == 64
    shard_s = min(mean_s, max_shard_s)
    in_packet = min(64, planned.size.num_bytes / (shard_s * 48_000))
    assert planned.num_calls * int(in_packet) >= 2 * 256
    assert planned.packet_s == pytest.approx(int(in_packet) * shard_s)


def test_recordings_that_are_never_cut_are_packets_of_their_own_and_fill_the_slots():
    planned = plan(1000, 2 * HOUR_S, max_shard_s=None)
    assert planned.num_calls >= 1.25 * 256


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
