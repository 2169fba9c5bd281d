"""The limits of a device, against a study by hand of one H200."""

import pytest

from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.roofline import DeviceRates, limit_times_real_time
from nightscribe.model.memory_budget import mean_entries

# 4.3 TB/s, 790 TFLOP/s in bf16, 300 in TF32; prefix and flush of a clip are not counted as audio.
H200 = DeviceRates(copy_bytes_per_s=4.3e12, flops=790e12, codec_flops=300e12)


@pytest.mark.parametrize(
    ("size", "clip_s", "by_hand"),
    [
        ("1b", 600, 2805),
        ("1b", 60, 4330),
        ("1b", 10, 8680),
        ("2.6b", 600, 1757),
        ("2.6b", 60, 1986),
        ("2.6b", 10, 3018),
    ],
)
def test_the_limit_is_that_of_the_study(size, clip_s, by_hand):
    limit = limit_times_real_time(config_of(size), clip_s, 256, H200)
    assert limit == pytest.approx(by_hand, rel=0.12 if clip_s == 10 else 0.04)


def test_few_slots_pay_for_the_weights_alone():
    few, many = (limit_times_real_time(config_of("1b"), 600, slots, H200) for slots in (1, 256))
    assert few < many / 10


def test_half_the_bytes_of_a_cache_nearly_double_the_speed_of_long_recordings():
    full, half = (limit_times_real_time(config_of("1b"), 3600, 256, H200, size) for size in (2, 1))
    assert 1.5 < half / full < 2


@pytest.mark.parametrize(("num_steps", "mean"), [(1, 1), (4, 2.5), (8, 4 - 6 / 8)])
def test_the_mean_of_a_window_counts_its_growth(num_steps, mean):
    assert mean_entries(num_steps, context=4) == mean
