"""A fused Mimi moves less than half the bytes of the plain one, and no more than it should."""

import pytest

from ops.benchmarks.codec_traffic import measure_traffic

pytest.importorskip("triton", reason="triton is not installed: there is no fused Mimi")


def test_a_group_moves_at_most_10_gb_in_at_most_150_operators():
    plain, fused = (measure_traffic(fused=is_fused) for is_fused in (False, True))
    assert fused.num_bytes <= 10e9 < plain.num_bytes / 2
    assert fused.num_operators <= 150 < plain.num_operators
