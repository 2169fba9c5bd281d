"""Segmentation 3.0 of pyannote: who speaks in each frame of ten seconds (arXiv 2310.13025).

SincNet filters, a bidirectional LSTM and a classifier over the sets of at most two of three local
speakers (the powerset). A local speaker means nothing outside of its ten seconds.

B windows, N samples, C channels, T frames, K local speakers, P sets of local speakers.
"""

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATE_HZ = 16_000
WINDOW_S = 10.0
NUM_LOCAL_SPEAKERS = 3
MAX_SIMULTANEOUS = 2
# Frames by the strides of the filters and pools; the first one covers 991 samples.
FRAME_SAMPLES = 270
FIRST_FRAME_CENTRE = 495
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
FIRST_FRAME_S = FIRST_FRAME_CENTRE / SAMPLE_RATE_HZ

FILTER_STRIDE = 10
POOL = 3
POOLS_AT_ONCE = 256
MIN_LOW_HZ = MIN_BAND_HZ = 50.0
NUM_LSTM_LAYERS = 4
LSTM_SIZE = 128

Weights = Mapping[str, Tensor]


def local_speaker_sets() -> Tensor:
    """Which local speakers are in each class: none, each alone, each pair."""
    sets_PK = [
        [float(speaker in members) for speaker in range(NUM_LOCAL_SPEAKERS)]
        for size in range(MAX_SIMULTANEOUS + 1)
        for members in combinations(range(NUM_LOCAL_SPEAKERS), size)
    ]
    return torch.tensor(sets_PK)


class SegmentationNetwork:
    """Weights by the names of the published checkpoint, on the device that they are on."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._filters = _sinc_filters(weights)
        device = self._filters.device
        self._lstm = _lstm(weights).to(device)
        self._sets_PK = local_speaker_sets().to(device)

    def __call__(self, samples_BN: Tensor) -> Tensor:
        """Log probability of each set of local speakers, in each frame."""
        x_BCT = self._filtered(samples_BN)
        x_BTC, _ = self._lstm(x_BCT.transpose(1, 2))
        for layer in ("linear.0", "linear.1"):
            x_BTC = F.leaky_relu(F.linear(x_BTC, *self._pair(layer)))
        return F.linear(x_BTC, *self._pair("classifier")).log_softmax(dim=-1)

    def active(self, samples_BN: Tensor) -> Tensor:
        """Whether each local speaker speaks, in each frame."""
        likeliest_BT = self(samples_BN).argmax(dim=-1)
        return self._sets_PK[likeliest_BT] > 0

    def _filtered(self, samples_BN: Tensor) -> Tensor:
        normed_B1N = F.instance_norm(
            samples_BN[:, None], None, None, *self._pair("sincnet.wav_norm1d")
        )
        x_BCT = self._normed(self._loudest(normed_B1N[:, 0]), 0)
        for layer in (1, 2):
            x_BCT = F.conv1d(x_BCT, *self._pair(f"sincnet.conv1d.{layer}"))
            x_BCT = self._normed(F.max_pool1d(x_BCT, POOL, POOL), layer)
        return x_BCT

    def _loudest(self, samples_BN: Tensor) -> Tensor:
        """The loudest of every three outputs of each filter.

        On a CPU a part at a time, which stays in its cache: products of matrices, the frames copied
        out of the samples, are faster there than a convolution of one channel.
        """
        if samples_BN.device.type != "cpu":
            loud_BCT = F.conv1d(samples_BN[:, None], self._filters[:, None], stride=FILTER_STRIDE)
            return F.max_pool1d(loud_BCT.abs_(), POOL, POOL)
        framed_BTN = samples_BN.unfold(1, self._filters.shape[1], FILTER_STRIDE)
        num_pools = framed_BTN.shape[1] // POOL
        pooled_BTC = samples_BN.new_empty(len(samples_BN), num_pools, len(self._filters))
        for framed_TN, pooled_TC in zip(framed_BTN, pooled_BTC, strict=True):
            for part_TC, first in zip(
                pooled_TC.split(POOLS_AT_ONCE), range(0, num_pools, POOLS_AT_ONCE), strict=True
            ):
                frames_TN = framed_TN[first * POOL : (first + len(part_TC)) * POOL]
                loud_TC = F.linear(frames_TN, self._filters).abs_()
                torch.amax(loud_TC.unflatten(0, (-1, POOL)), dim=1, out=part_TC)
        return pooled_BTC.transpose(1, 2).contiguous()

    def _normed(self, x_BCT: Tensor, layer: int) -> Tensor:
        return F.leaky_relu(
            F.instance_norm(x_BCT, None, None, *self._pair(f"sincnet.norm1d.{layer}"))
        )

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]


def _sinc_filters(weights: Weights) -> Tensor:
    """Pairs of even and odd band-pass filters, from their learned edges."""
    name = "sincnet.conv1d.0.filterbank"
    low_C1 = MIN_LOW_HZ + weights[f"{name}.low_hz_"].abs()
    high_C1 = low_C1 + MIN_BAND_HZ + weights[f"{name}.band_hz_"].abs()
    high_C1 = high_C1.clamp(MIN_LOW_HZ, SAMPLE_RATE_HZ / 2)
    band_C1 = high_C1 - low_C1
    phase_1N = weights[f"{name}.n_"]  # 2 pi t of the left half
    window_N = weights[f"{name}.window_"]
    low_CN, high_CN = low_C1 @ phase_1N, high_C1 @ phase_1N
    even_left_CN = (high_CN.sin() - low_CN.sin()) / (phase_1N / 2) * window_N
    odd_left_CN = (low_CN.cos() - high_CN.cos()) / (phase_1N / 2) * window_N
    even_CN = torch.cat([even_left_CN, 2 * band_C1, even_left_CN.flip(1)], dim=1)
    odd_CN = torch.cat([odd_left_CN, torch.zeros_like(band_C1), -odd_left_CN.flip(1)], dim=1)
    return (torch.cat([even_CN, odd_CN]) / torch.cat([band_C1, band_C1]) / 2).contiguous()


def _lstm(weights: Weights) -> nn.LSTM:
    lstm = nn.LSTM(
        60, LSTM_SIZE, NUM_LSTM_LAYERS, batch_first=True, bidirectional=True
    ).requires_grad_(False)
    own = {name: weights[f"lstm.{name}"].float() for name in lstm.state_dict()}
    lstm.load_state_dict(own)
    return lstm.eval()
