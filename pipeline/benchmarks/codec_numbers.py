"""Mimi in strict fp32 and with TF32 products: speed, and codes that come out otherwise.

B rows, N samples, F frames, K codebooks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nightscribe.benchmarks.timing import in_turns, medians
from nightscribe.model.device import round_products
from nightscribe.model.mimi import Mimi

PRECISIONS = {"fp32": "none", "TF32 convolutions": "convolutions", "TF32": "all"}
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecNumbers:
    """One way to multiply."""

    name: str
    times_real_time: float
    flipped_first: float  # share of the first codebook's codes, which carry most of the words
    flipped: float  # of all codes


def measure_numbers(mimi: Mimi, num_rows: int, num_frames: int) -> Iterator[CodecNumbers]:
    """Noise of so many rows and frames, encoded each way."""
    device = mimi.device
    samples_BN = torch.randn(num_rows, num_frames * mimi.config.frame_samples, device=device) * 0.1
    sound_s = samples_BN.numel() / mimi.config.sample_rate_hz
    strict_BFK = _encode(mimi, samples_BN, "none")
    for name, tf32 in PRECISIONS.items():
        codes_BFK = _encode(mimi, samples_BN, tf32)
        actions = {name: partial(_encode, mimi, samples_BN, tf32)}
        spent = medians(in_turns(actions, REPEATS, device)[name])
        flipped_BFK = codes_BFK != strict_BFK
        yield CodecNumbers(
            name=name,
            times_real_time=sound_s / spent.wall_s,
            flipped_first=flipped_BFK[..., 0].float().mean().item(),
            flipped=flipped_BFK.float().mean().item(),
        )


def _encode(mimi: Mimi, samples_BN: Tensor, tf32: str) -> Tensor:
    fresh_B = torch.ones(len(samples_BN), dtype=torch.bool, device=mimi.device)
    with _products(tf32):
        return mimi.encode(samples_BN, mimi.initial_state(len(samples_BN)), fresh_B)


@contextmanager
def _products(tf32: str) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        round_products(tf32)
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
