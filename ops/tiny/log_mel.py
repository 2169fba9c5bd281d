"""Log-mel features at 25 Hz, in as many dimensions as the output of the codec's convolutions.

They replace the convolutions while the rest of the codec is trained, forty times faster than
training both. The convolutions are then trained to imitate them.

B windows, N samples, T positions, M features before and D after the projection.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

NUM_MELS = 64
HOP, SPAN, FFT = 240, 600, 1024
HOPS_PER_POSITION = 4
FLOOR = 10**-3.3  # of the power, about -56 dB of full scale for white noise
# Between the raw features, where the loudest few count alone, and white ones, where noise does.
WHITENING = 0.35


def log_mel(samples_BN: Tensor, bank_XM: Tensor) -> Tensor:
    """Four spectra for each position, each complete by the end of the position."""
    spans = F.pad(samples_BN, (SPAN - HOP, 0)).unfold(1, SPAN, HOP) * torch.hann_window(SPAN)
    power = torch.fft.rfft(spans, FFT).abs().square() @ bank_XM
    return (power + FLOOR).log10().unflatten(1, (-1, HOPS_PER_POSITION)).flatten(2)


def mel_bank(sample_rate_hz: int = 24000) -> Tensor:
    """Triangles between 60 Hz and 11.5 kHz, each of unit sum."""
    frequencies_X = np.linspace(0, sample_rate_hz / 2, FFT // 2 + 1)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (60, 11500))
    corners = 700 * (10 ** (np.linspace(low, high, NUM_MELS + 2) / 2595) - 1)
    rising = (frequencies_X[:, None] - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - frequencies_X[:, None]) / np.diff(corners)[1:]
    bank_XM = np.maximum(0, np.minimum(rising, falling))
    return torch.tensor(bank_XM / bank_XM.sum(axis=0), dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class Projection:
    """Principal components, partly whitened; fitted once and then fixed."""

    mean_M: Tensor
    matrix_MD: Tensor

    @classmethod
    def fit(cls, samples_BN: Tensor, dim: int) -> Self:
        features = log_mel(samples_BN, mel_bank()).flatten(0, 1).double()
        mean = features.mean(dim=0)
        variances, directions = torch.linalg.eigh((features - mean).T.cov())
        variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
        matrix = directions / variances.clamp_min(1e-8) ** WHITENING
        matrix = matrix / ((features - mean) @ matrix).std()
        return cls(mean.float(), matrix.float())

    def __call__(self, samples_BN: Tensor) -> Tensor:
        return (log_mel(samples_BN, mel_bank()) - self.mean_M) @ self.matrix_MD

    def importance_D(self) -> Tensor:
        """How much a feature weighs where the loudest things shall be imitated first."""
        weights = self.matrix_MD.norm(dim=0) ** -1.2
        return weights / weights.mean()

    def save(self, path: Path) -> None:
        save_file({"mean": self.mean_M, "matrix": self.matrix_MD.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        tensors = load_file(path)
        return cls(tensors["mean"], tensors["matrix"])
