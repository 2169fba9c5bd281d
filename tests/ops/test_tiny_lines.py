"""Lossy lines keep the times of words."""

import numpy as np
import pytest

from ops.tiny.corpus import RATE_HZ
from ops.tiny.lines import LINES, lag, over_line


def bursts() -> np.ndarray:
    rng, samples_N = np.random.default_rng(0), np.zeros(3 * RATE_HZ, np.float32)
    for start_s in (0.4, 1.1, 2.3):
        start = int(start_s * RATE_HZ)
        burst = np.convolve(rng.standard_normal(RATE_HZ // 5), np.ones(12) / 12, "same")
        samples_N[start : start + len(burst)] = 0.3 * burst
    return samples_N


@pytest.mark.parametrize("late", [-700, -1, 0, 1, 1658])
def test_lag_is_found_both_ways(late):
    sent_N = bursts()
    assert lag(sent_N, np.roll(sent_N, late)) == late


@pytest.mark.parametrize("line", sorted(set(LINES)), ids=lambda line: " ".join(line.options))
def test_what_comes_out_is_as_long_and_in_time(line):
    sent_N = bursts()
    heard_N = over_line(sent_N, line)
    assert len(heard_N) == len(sent_N)
    assert not np.array_equal(heard_N, sent_N)
    assert abs(lag(sent_N, heard_N)) <= 24  # 1 ms
