"""Weights and sound that every machine computes alike: only what the reference said is stored.

numpy's `RandomState` is frozen: it draws the same numbers in every version.
"""

from dataclasses import replace
from math import prod
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from tests.model.reference import SMALL_LANGUAGE_MODEL, SMALL_MIMI

NUM_FRAMES = 60
MIMI = replace(SMALL_MIMI, codebook_size=128, num_codebooks=4)
LANGUAGE_MODEL = replace(SMALL_LANGUAGE_MODEL, audio_card=128, num_codebooks=4)
# Keeps sound alive through the ELUs of as many convolutions as there are.
CONVOLUTION_GAIN = 1.4


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor of this native name, the same on every machine."""
    drawn = np.random.RandomState(crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(_scaled(name, drawn, shape)).float()


def _scaled(name: str, drawn: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if "layer_scale" in name or name.endswith("cluster_usage"):
        return 0.5 + 0.1 * np.abs(drawn)
    if name.endswith(("alpha", "norm1.weight", "norm2.weight")):
        return 1 + 0.1 * drawn
    if name.endswith("bias"):
        return 0.1 * drawn
    if name.endswith("embedding_sum") or "emb." in name:
        return drawn
    gain = CONVOLUTION_GAIN if ".conv." in name else 1.0
    return drawn * gain / np.sqrt(prod(shape[1:]))


def samples() -> np.ndarray:
    """A row of int16: noise that grows louder."""
    loudness = np.linspace(500, 9000, NUM_FRAMES * MIMI.frame_samples)
    drawn = np.random.RandomState(0).standard_normal(loudness.shape) * loudness
    return drawn.clip(-32768, 32767).astype(np.int16)[None]
