"""Composes dialogues of known speakers: who speaks when is true by construction.

A turn is one to three clips of a speaker. The next speaker begins after a pause, or before the turn
has ended while less of the dialogue overlaps than was asked for. A clip comes again only when all
clips of its speaker were used.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ops.speakers.clips import RATE_HZ, Clip

NOISE_DBFS = -66.0
TURN_CLIPS = (1, 3)
WITHIN_TURN_S = (0.1, 0.35)
BETWEEN_TURNS_S = (0.15, 1.0)
OVERLAP_S = (0.4, 1.6)
FADE_S = 0.01


@dataclass(frozen=True)
class Spoken:
    """A clip at its place in a dialogue."""

    speaker: str
    start_s: float
    end_s: float
    clip: Clip


@dataclass(frozen=True)
class Dialogue:
    """The sound of a dialogue at 16 kHz, and what is spoken in it, by start."""

    name: str
    samples_N: NDArray[np.int16]
    spoken: tuple[Spoken, ...]

    @property
    def speakers(self) -> list[str]:
        return sorted({one.speaker for one in self.spoken})


def compose(
    name: str,
    clips: Mapping[str, Sequence[Clip]],
    duration_s: float,
    overlap: float,
    seed: int,
) -> Dialogue:
    """A dialogue of all speakers in `clips`; `overlap` is the share of it with two voices."""
    draw = random.Random(f"{name} {seed}")
    spoken = tuple(_spoken(clips, duration_s, overlap, draw))
    end_s = max(one.end_s for one in spoken) + 0.5
    sound_N = np.zeros(round(end_s * RATE_HZ), np.float32)
    for one in spoken:
        first = round(one.start_s * RATE_HZ)
        samples_N = _faded(one.clip.samples_N)
        sound_N[first : first + len(samples_N)] += samples_N
    noise_N = np.random.default_rng(seed).standard_normal(len(sound_N), dtype=np.float32)
    sound_N += noise_N * np.float32(10 ** (NOISE_DBFS / 20))
    return Dialogue(name, (sound_N.clip(-1, 1) * 32767).astype(np.int16), spoken)


def _spoken(
    clips: Mapping[str, Sequence[Clip]], duration_s: float, overlap: float, draw: random.Random
) -> Iterator[Spoken]:
    decks = {name: _deck(some, draw) for name, some in sorted(clips.items())}
    end_s, speaker, overlapped_s = 0.5, "", 0.0
    while end_s < duration_s:
        speaker = draw.choice([name for name in decks if name != speaker] or list(decks))
        start_s = end_s + draw.uniform(*BETWEEN_TURNS_S)
        turn = [next(decks[speaker]) for _ in range(draw.randint(*TURN_CLIPS))]
        if overlapped_s < overlap * end_s and end_s > 2:
            early_s = min(draw.uniform(*OVERLAP_S), turn[0].duration_s * 0.8)
            start_s, overlapped_s = end_s - early_s, overlapped_s + early_s
        for clip in turn:
            yield Spoken(speaker, start_s, start_s + clip.duration_s, clip)
            end_s = max(end_s, start_s + clip.duration_s)
            start_s = start_s + clip.duration_s + draw.uniform(*WITHIN_TURN_S)


def _deck(clips: Sequence[Clip], draw: random.Random) -> Iterator[Clip]:
    while True:
        yield from draw.sample(list(clips), len(clips))


def _faded(samples_N: NDArray[np.float32]) -> NDArray[np.float32]:
    edge = min(round(FADE_S * RATE_HZ), len(samples_N) // 2)
    faded_N = samples_N.copy()
    slope = np.linspace(0, 1, edge, dtype=np.float32)
    faded_N[:edge] *= slope
    faded_N[len(faded_N) - edge :] *= slope[::-1]
    return faded_N
