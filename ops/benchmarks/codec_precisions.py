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
from nightscribe.model.model_runner import slot_encoder

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
    """Encode the same noise in each precision, as a transcriber does on this device."""
    device = mimi.device
    noise_BN = torch.randn(num_rows, num_frames * mimi.config.frame_samples, device=device)
    samples_BN = (3000 * noise_BN).to(torch.int16)
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
    rows_B = torch.arange(len(samples_BN), device=mimi.device)
    state, encode = mimi.initial_state(len(samples_BN)), slot_encoder(mimi)
    with _with_products(tf32), torch.inference_mode():
        return encode(samples_BN, state, rows_B, rows_B, torch.ones_like(rows_B))


@contextmanager
def _with_products(tf32: str) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        set_tf32(tf32)
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
