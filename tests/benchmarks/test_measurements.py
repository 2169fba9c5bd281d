"""What is measured is work as in a run."""

import pytest
import torch

from nightscribe.benchmarks.measurements import fill_with_noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_a_cache_holds_finite_numbers_that_differ(dtype):
    fill = 1 if dtype == torch.int8 else float("nan")
    cache = torch.full((64,), fill).to(dtype)
    fill_with_noise(cache)
    values = cache.float()
    assert values.isfinite().all()
    assert len(values.unique()) > 8
