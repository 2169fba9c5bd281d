"""Windows of short clips, as a folder of telephone prompts is heard: a word or a phrase said alone,
cut closely or into its first sound, loud, with nothing at all before and after it.

N samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nightscribe.training.targets import TimedTokens
from nightscribe.training.windows import Utterance, played_at
from ops.tiny.corpus import RATE_HZ

SINGLE_RATE = 0.6  # share of clips of one word
MAX_CUT_S, MAX_LEAD_S, MAX_TAIL_S = 0.03, 0.22, 0.3
MIN_GAP_S, MAX_GAP_S = 0.7, 3.0
MAX_LEVEL_DB = 5.0  # louder or quieter than the clips around it
MAX_SPEED = 1.1
FADE = 48


class ClipWindow(NamedTuple):
    """Sound, words, and where the clips are."""

    samples_N: np.ndarray
    words: tuple[TimedTokens, ...]
    is_clip_N: np.ndarray


def clip_window(
    utterances: Sequence[Utterance], num_samples: int, rng: np.random.Generator
) -> ClipWindow:
    samples_N, is_clip_N = np.zeros(num_samples, np.float32), np.zeros(num_samples, bool)
    words: list[TimedTokens] = []
    start = int(rng.choice((0.0, rng.uniform(0, 1.5))) * RATE_HZ)
    while True:
        clip = _clip(utterances[int(rng.integers(len(utterances)))], rng)
        end = start + len(clip.samples_N)
        if end > num_samples:
            return ClipWindow(samples_N, tuple(words), is_clip_N)
        samples_N[start:end] = clip.samples_N * 10 ** (rng.uniform(-1, 1) * MAX_LEVEL_DB / 20)
        is_clip_N[start:end] = True
        words += _moved(clip.words, start / RATE_HZ)
        start = end + int(rng.uniform(MIN_GAP_S, MAX_GAP_S) * RATE_HZ)


def _clip(utterance: Utterance, rng: np.random.Generator) -> Utterance:
    words = utterance.words
    if rng.random() < SINGLE_RATE and len(words) > 1:
        words = _one_of(words, rng)
    start_s = words[0].start_s - rng.uniform(-MAX_CUT_S, MAX_LEAD_S)
    end_s = words[-1].end_s + rng.uniform(0, MAX_TAIL_S)
    if len(words) < len(utterance.words):  # others are said before and after
        start_s, end_s = max(start_s, words[0].start_s), words[-1].end_s
    start = max(0, int(start_s * RATE_HZ))
    samples_N = _faded(utterance.samples_N[start : int(end_s * RATE_HZ)])
    cut = Utterance(samples_N, tuple(_moved(words, -start / RATE_HZ)), utterance.domain)
    return played_at(cut, float(np.exp(rng.uniform(-1, 1) * np.log(MAX_SPEED))))


def _one_of(words: tuple[TimedTokens, ...], rng: np.random.Generator) -> tuple[TimedTokens, ...]:
    index = int(rng.integers(len(words)))
    return words[index : index + 1]


def _faded(samples_N: np.ndarray) -> np.ndarray:
    faded_N, fade = samples_N.astype(np.float32), min(FADE, len(samples_N) // 2)
    if fade:
        faded_N[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        faded_N[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return faded_N


def _moved(words: Sequence[TimedTokens], by_s: float) -> list[TimedTokens]:
    return [replace(w, start_s=w.start_s + by_s, end_s=w.end_s + by_s) for w in words]
