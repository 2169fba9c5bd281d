import json

import pytest

from nightscribe.survey.costs import (
    CPUS_PER_TRANSCRIBER,
    ArchiveWorkload,
    GpuSpeed,
    cpus_to_feed,
    decoding_cpu_h,
    estimate_cost,
    limited_by_cpus,
    measured_speed,
    read_benchmarks,
)

OLD = {"gpu": "NVIDIA H200", "model": "tiny", "times_real_time": 500, "date": "2026-01-01"}
NEW = OLD | {"times_real_time": 900, "date": "2026-11-20"}


def test_the_newest_measurement_of_this_model_on_that_gpu_counts():
    others = [OLD | {"gpu": "NVIDIA H100"}, OLD | {"model": "big"}]
    assert measured_speed("h200", "tiny", [NEW, OLD, *others]) == GpuSpeed(
        "h200", 900.0, "measured on NVIDIA H200, 2026-11-20"
    )
    assert measured_speed("l40s", "tiny", [NEW]) is None
    assert measured_speed("h200", "somebody-elses", [NEW]) is None


@pytest.mark.parametrize(
    ("device_name", "gpu", "is_named"),
    [
        ("NVIDIA L40S", "l4", False),
        ("NVIDIA L40S", "l40s", True),
        ("NVIDIA L4", "L4", True),
        ("NVIDIA H200", "NVIDIA H200", True),
        ("NVIDIA H200", "h20", False),
        ("NVIDIA A100-SXM4-80GB", "a100", True),
        ("NVIDIA A100-SXM4-80GB", "a10", False),
        ("NVIDIA GeForce RTX 3090", "rtx3090", True),
    ],
)
def test_a_measurement_is_of_the_gpu_whose_whole_name_stands_in_the_device_s(
    device_name, gpu, is_named
):
    assert (measured_speed(gpu, "tiny", [NEW | {"gpu": device_name}]) is not None) == is_named


def test_hours_and_money():
    work = ArchiveWorkload(duration_s=3600_000.0, num_shards=0, silence_per_shard_s=1.0)
    cost = estimate_cost(work, GpuSpeed("h200", 500.0, "x"), 4, 3.5)
    assert (cost.gpu_h, cost.wall_h, cost.price) == (2.0, 0.5, 7.0)
    assert estimate_cost(work, GpuSpeed("h200", 500.0, "x"), 4, None).price is None


def test_silence_around_many_short_shards_is_paid_for():
    short = ArchiveWorkload(duration_s=3600.0, num_shards=1000, silence_per_shard_s=3.6)
    cost = estimate_cost(short, GpuSpeed("h200", 1.0, "x"), 1, None)
    assert cost.gpu_h == pytest.approx(2.0)


def test_benchmarks_are_read_from_a_folder(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.json").write_text(json.dumps([OLD, {"step_ms": 3}]))
    (tmp_path / "b.json").write_text(json.dumps(NEW))
    assert read_benchmarks(tmp_path) == [NEW, OLD]
    assert read_benchmarks(tmp_path / "none") == []


def one_hour_of_gpu(num_gpus):
    work = ArchiveWorkload(duration_s=1000 * 3600, num_shards=0, silence_per_shard_s=0)
    return estimate_cost(work, GpuSpeed("h200", 1000.0, "made up"), num_gpus, price_per_gpu_h=2.0)


def test_cpus_that_feed_the_gpus_cost_no_time_and_fewer_cost_in_proportion():
    cost, cpu_h = one_hour_of_gpu(num_gpus=1), 4.0
    needed = cpus_to_feed(cpu_h, cost, 1)
    assert needed == 4 + CPUS_PER_TRANSCRIBER
    assert limited_by_cpus(cost, cpu_h, needed, 1) == cost
    slower = limited_by_cpus(cost, cpu_h, CPUS_PER_TRANSCRIBER + 1, 1)
    assert (slower.wall_h, slower.gpu_h, slower.price) == (4, 4, 8)


def test_twice_the_gpus_need_twice_the_cpus():
    one, two = (cpus_to_feed(4.0, one_hour_of_gpu(count), count) for count in (1, 2))
    assert two == 2 * one


def test_short_files_take_longer_to_decode_than_one_long_one():
    long = decoding_cpu_h({"mp3": 36_000}, num_files=1)
    assert long == pytest.approx(36_000 / 250 / 3600, rel=0.01)
    assert decoding_cpu_h({"mp3": 36_000}, num_files=3600) > 1.4 * long
    assert decoding_cpu_h({"unheard of": 36_000}, num_files=1) > long
