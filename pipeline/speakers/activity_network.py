"""Silero VAD: whether somebody speaks in each 32 ms of sound, however loud anything else is.

A spectrum by convolution, four convolutions over time and an LSTM. The result of a piece depends on
that piece alone: the LSTM starts afresh with each.

B pieces, N samples, S steps of 512 samples, T spectral frames of a step, C channels.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from nightscribe.model.checkpoints.locations import fetch, locate
from nightscribe.speakers.features import at_16_khz

CHECKPOINT, FILE = "models/speakers", "activity.safetensors"
STEP = 512
CONTEXT = 64  # samples of the step before
HOP, NUM_BINS, PADDING = 128, 129, 64
LSTM_SIZE = 128
IS_SPEECH = 0.5
PIECES_AT_ONCE = 16
# A convolution and its stride; each is followed by a ReLU.
CONVOLUTIONS = (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1))


class ActivityNetwork:
    """Weights by the names of the published safetensors file, on the CPU."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._lstm = nn.LSTM(LSTM_SIZE, LSTM_SIZE, batch_first=True).requires_grad_(False)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._lstm.load_state_dict({f"{name}_l0": weights[f"lstm_cell.{name}"] for name in names})

    def __call__(self, samples_BN: Tensor) -> Tensor:
        """The probability of speech in each step; N is a multiple of a step."""
        num_pieces, num_steps = len(samples_BN), samples_BN.shape[1] // STEP
        framed_BSN = F.pad(samples_BN, (CONTEXT, 0)).unfold(1, CONTEXT + STEP, STEP)
        features_C = self._features(framed_BSN.flatten(0, 1))
        hidden_BSC, _ = self._lstm(features_C.view(num_pieces, num_steps, LSTM_SIZE))
        output_BCS = F.conv1d(hidden_BSC.relu().transpose(1, 2), *self._pair("final_conv"))
        return output_BCS.sigmoid()[:, 0]

    def _features(self, framed_SN: Tensor) -> Tensor:
        padded_SN = F.pad(framed_SN[:, None], (0, PADDING), mode="reflect")
        parts_SCT = F.conv1d(padded_SN, self._weights["stft_conv.weight"], stride=HOP)
        real_SCT, imaginary_SCT = parts_SCT.split(NUM_BINS, dim=1)
        x_SCT = (real_SCT.square() + imaginary_SCT.square()).sqrt()
        for name, stride in CONVOLUTIONS:
            x_SCT = F.conv1d(x_SCT, *self._pair(name), stride=stride, padding=1).relu_()
        return x_SCT[:, :, 0]

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]


def load_hearing(sample_rate_hz: int) -> Callable[[list[NDArray[np.int16]]], list[float]]:
    """A function from pieces of sound to the share of each in which somebody speaks."""
    return partial(_shares, sample_rate_hz=sample_rate_hz)


@cache
def _network() -> ActivityNetwork:
    location, _ = locate(CHECKPOINT)
    return ActivityNetwork(load_file(fetch(location, FILE)))


def speech_probabilities(samples_BN: Tensor) -> Tensor:
    """That of speech in each step of 512 samples, at 16 kHz; the rest of a step is left out."""
    whole_BN = samples_BN[:, : samples_BN.shape[1] // STEP * STEP]
    return torch.cat([_network()(some_BN) for some_BN in whole_BN.split(PIECES_AT_ONCE)])


def _shares(pieces: list[NDArray[np.int16]], sample_rate_hz: int) -> list[float]:
    shares: list[float] = []
    with torch.inference_mode():
        for first in range(0, len(pieces), PIECES_AT_ONCE):
            some = [
                at_16_khz(torch.from_numpy(piece_N), sample_rate_hz)
                for piece_N in pieces[first : first + PIECES_AT_ONCE]
            ]
            shares += _shares_at_once(some)
    return shares


def _shares_at_once(pieces: list[Tensor]) -> list[float]:
    num_steps = [max(len(piece_N) // STEP, 1) for piece_N in pieces]
    longest = max(num_steps) * STEP
    samples_BN = torch.stack([F.pad(one_N, (0, longest - len(one_N))) for one_N in pieces])
    is_speech_BS = _network()(samples_BN) > IS_SPEECH
    return [
        float(flags_S[:count].float().mean())
        for flags_S, count in zip(is_speech_BS, num_steps, strict=True)
    ]
