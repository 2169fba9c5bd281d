"""Mimi in strict fp32 and with TF32 products: speed, and codes that change.

B rows, N samples, F frames, K codebooks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nightscribe.benchmarks.measurements import in_turns, medians
from nightscribe.model.device import set_tf32
from nightscribe.model.mimi import Mimi

PRECISIONS = {"fp32": "none", "TF32 convolutions": "convolutions", "TF32": "all"}
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecPrecision:
    """One precision of the products."""

    name: str
    times_real_time: float
    changed_first: float  # share of the first codebook's codes, which matter most for words
    changed: float  # share of all codes


def measure_precisions(mimi: Mimi, num_rows: int, num_frames: int) -> Iterator[CodecPrecision]:
    """Encode the same noise in each precision."""
    device = mimi.device
    samples_BN = torch.randn(num_rows, num_frames * mimi.config.frame_samples, device=device) * 0.1
    audio_s = samples_BN.numel() / mimi.config.sample_rate_hz
    strict_BFK = _encode(mimi, samples_BN, "none")
    for name, tf32 in PRECISIONS.items():
        codes_BFK = _encode(mimi, samples_BN, tf32)
        actions = {name: partial(_encode, mimi, samples_BN, tf32)}
        elapsed = medians(in_turns(actions, REPEATS, device)[name])
        changed_BFK = codes_BFK != strict_BFK
        yield CodecPrecision(
            name=name,
            times_real_time=audio_s / elapsed.wall_s,
            changed_first=changed_BFK[..., 0].float().mean().item(),
            changed=changed_BFK.float().mean().item(),
        )


def _encode(mimi: Mimi, samples_BN: Tensor, tf32: str) -> Tensor:
    fresh_B = torch.ones(len(samples_BN), dtype=torch.bool, device=mimi.device)
    with _with_products(tf32):
        return mimi.encode(samples_BN, mimi.initial_state(len(samples_BN)), fresh_B)


@contextmanager
def _with_products(tf32: str) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        set_tf32(tf32)
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
