"""Sampling of text decisions and codes: the most likely, or drawn with noise of an item's own.

S slots, V candidates, D of them to draw from.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nightscribe.model.sampling import uniform_noise

TEXT_TOP_K, AUDIO_TOP_K = 25, 250
TEXT_STREAM = -1  # the text decision's place among the codebooks


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSampling:
    """How a text decision and codes are chosen; temperature 0 always takes the most likely."""

    temperature: float = 0.6
    text_top_k: int = TEXT_TOP_K
    audio_top_k: int = AUDIO_TOP_K


class Noise(Protocol):
    """Draws from the exponential distribution, SD, for one codebook (or the text) of a step."""

    def __call__(self, stream: int, steps_S: Tensor, num_draws: int) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class SeededNoise:
    """Noise from a hash of seed, step and codebook: it does not depend on the other slots."""

    seeds_S: Tensor

    def __call__(self, stream: int, steps_S: Tensor, num_draws: int) -> Tensor:
        uniform_SD = uniform_noise(self.seeds_S + (stream + 1 << 40), steps_S, num_draws)
        return -uniform_SD.log()


def choose(
    logits_SV: Tensor, temperature: float, top_k: int, noise_of: Noise, stream: int, steps_S: Tensor
) -> Tensor:
    """One id per slot: the most likely, or one of the `top_k` with its probability."""
    if temperature == 0:
        return logits_SV.argmax(dim=-1)
    probabilities_SV = (logits_SV / temperature).softmax(dim=-1)
    best_SD, ids_SD = probabilities_SV.topk(min(top_k, logits_SV.shape[-1]), dim=-1)
    noise_SD = noise_of(stream, steps_S, best_SD.shape[-1])
    winners_S1 = (best_SD / noise_SD).argmax(dim=-1, keepdim=True)
    return ids_SD.gather(-1, winners_S1)[:, 0]
