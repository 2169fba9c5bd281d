"""Mimi in strict fp32 and with TF32 products: speed, and codes that come out otherwise.

B rows, N samples, F frames, K codebooks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.benchmarks.timing import in_turns, medians
from pipeline.model.mimi import Mimi

STRICT = ("ieee", "ieee")
# Of convolutions and of matrices.
NUMBERS = {"fp32": STRICT, "TF32 convolutions": ("tf32", "ieee"), "TF32": ("tf32", "tf32")}
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
    strict_BFK = _encode(mimi, samples_BN, *STRICT)
    for name, numbers in NUMBERS.items():
        codes_BFK = _encode(mimi, samples_BN, *numbers)
        actions = {name: lambda numbers=numbers: _encode(mimi, samples_BN, *numbers)}
        spent = medians(in_turns(actions, REPEATS, device)[name])
        flipped_BFK = codes_BFK != strict_BFK
        yield CodecNumbers(
            name=name,
            times_real_time=sound_s / spent.wall_s,
            flipped_first=flipped_BFK[..., 0].float().mean().item(),
            flipped=flipped_BFK.float().mean().item(),
        )


def _encode(mimi: Mimi, samples_BN: Tensor, convolutions: str, matrices: str) -> Tensor:
    fresh_B = torch.ones(len(samples_BN), dtype=torch.bool, device=mimi.device)
    with _products(convolutions, matrices):
        return mimi.encode(samples_BN, mimi.initial_state(len(samples_BN)), fresh_B)


@contextmanager
def _products(convolutions: str, matrices: str) -> Iterator[None]:
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    switches = convolution, torch.backends.cuda.matmul
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch, precision in zip(switches, (convolutions, matrices), strict=True):
            switch.fp32_precision = precision
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
