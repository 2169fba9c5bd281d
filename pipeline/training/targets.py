"""What a model must predict at each step: delayed text, and how soon speech starts.

The input of position p is frame p - 1; position 0 has no audio. A word that begins at `start_s` is
announced by an end of padding at position `round(start_s * frame_rate) + delay - 1`, the inverse of
the rule that gives words their times, and its tokens follow. Between words there is padding.

A VAD head looks ahead by its horizon. Class 0 is "no speech within the horizon"; the other
classes divide the horizon evenly and say in which part speech starts, the first if it has started.

Forced alignment inverts the layout: the model transcribes the recording but may sample only padding
or the next token of the text. The step at which it samples a token gives the time of the word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nightscribe.errors import NightscribeError
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.sampling import TokenConstraints
from nightscribe.model.speech_to_text import SpeechToText

# Horizons of the published heads.
HORIZONS_S = (0.5, 1.0, 2.0, 3.0)
# The end of a word is not known; it is set at most this long after its start.
MAX_WORD_S = 0.8


@dataclass(frozen=True, slots=True)
class TimedTokens:
    """A word as tokens, and its time in seconds of its window."""

    tokens: tuple[int, ...]
    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("a word needs at least one token")
        if self.end_s < self.start_s:
            raise ValueError(f"a word cannot end at {self.end_s} s, before {self.start_s} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayout:
    """How a checkpoint lays out its text stream."""

    frame_rate_hz: float
    delay_steps: int
    padding_id: int
    end_of_padding_id: int
    start_id: int

    @classmethod
    def of(cls, config: SpeechToTextConfig) -> Self:
        language_model = config.language_model
        return cls(
            frame_rate_hz=config.mimi.frame_rate_hz,
            delay_steps=config.delay_steps,
            padding_id=language_model.padding_id,
            end_of_padding_id=language_model.end_of_padding_id,
            start_id=language_model.text_start_id,
        )

    def announced_at(self, start_s: float) -> int:
        """The position of the end of padding of a word that starts at `start_s`."""
        return round(start_s * self.frame_rate_hz) + self.delay_steps - 1


def delayed_text(words: Iterable[TimedTokens], num_frames: int, layout: TextLayout) -> np.ndarray:
    """The target token of each of `num_frames + 1` positions.

    A word that is due while the one before is still being written follows right after it; words
    that do not fit before the end are left out.
    """
    tokens_P = np.full(num_frames + 1, layout.padding_id, dtype=np.int64)
    free = 1
    for word in sorted(words, key=lambda word: word.start_s):
        written = (layout.end_of_padding_id, *word.tokens)
        position = max(layout.announced_at(word.start_s), free)
        free = position + len(written)
        if free > len(tokens_P):
            break
        tokens_P[position:free] = written
    return tokens_P


def text_inputs(tokens_P: np.ndarray, layout: TextLayout) -> np.ndarray:
    """The text inputs: the start id, then the target of the position before."""
    return np.concatenate(([layout.start_id], tokens_P[:-1]))


def prefixed(tokens_P: np.ndarray, prefix: Sequence[int]) -> np.ndarray:
    """The same tokens with a domain's forced tokens at the first positions."""
    prefixed_P = tokens_P.copy()
    prefixed_P[: len(prefix)] = prefix[: len(prefixed_P)]
    return prefixed_P


def speech_classes(
    words: Iterable[TimedTokens],
    positions_s_P: np.ndarray,
    num_classes: int,
    horizons_s: Sequence[float] = HORIZONS_S,
) -> np.ndarray:
    """The target class of each head at positions after so many seconds of audio: [P, H]."""
    wait_s_P1 = _seconds_to_speech(words, positions_s_P)[:, None]
    horizons_s_H = np.array(horizons_s)
    num_parts = num_classes - 1
    part_PH = np.minimum(wait_s_P1 / horizons_s_H * num_parts, num_parts - 1)
    return np.where(wait_s_P1 >= horizons_s_H, 0, 1 + part_PH.astype(np.int64))


def _seconds_to_speech(words: Iterable[TimedTokens], positions_s_P: np.ndarray) -> np.ndarray:
    """Seconds until the next word starts: 0 within a word, infinite after the last."""
    spans = sorted((word.start_s, word.end_s) for word in words)
    starts_s = np.array([*(start_s for start_s, _ in spans), np.inf])
    # Ends of overlapping speech must not fall behind one another for the search below.
    ends_s = np.maximum.accumulate([*(end_s for _, end_s in spans), np.inf])
    unfinished_P = np.searchsorted(ends_s, positions_s_P, side="right")
    return np.maximum(starts_s[unfinished_P] - positions_s_P, 0.0)


class AlignmentError(NightscribeError, ValueError):
    """The audio ended before all tokens of the text were sampled."""


def align(
    model: SpeechToText, samples_N: np.ndarray, words: Sequence[Sequence[int]]
) -> tuple[TimedTokens, ...]:
    """Time each word, given as its tokens; raise AlignmentError if text and audio do not match."""
    script = TokenConstraints(prompt_tokens=tuple(token for word in words for token in word))
    sampled = model.transcribe(samples_N[None], [script]).tokens_SF[0].tolist()
    starts_s = _starts_s(sampled, words, TextLayout.of(model.config))
    prefix_s = model.config.prefix_frames / model.config.mimi.frame_rate_hz
    duration_s = len(samples_N) / model.config.mimi.sample_rate_hz
    starts_s = [min(max(start_s - prefix_s, 0.0), duration_s) for start_s in starts_s]
    ends_s = [
        min(s + MAX_WORD_S, e) for s, e in zip(starts_s, [*starts_s[1:], duration_s], strict=True)
    ]
    return tuple(
        TimedTokens(tuple(tokens), start_s, max(start_s, end_s))
        for tokens, start_s, end_s in zip(words, starts_s, ends_s, strict=True)
    )


def _starts_s(
    tokens: Sequence[int], words: Sequence[Sequence[int]], layout: TextLayout
) -> list[float]:
    """Invert the layout: a word is announced at the position before its first token."""
    silent = (layout.padding_id, layout.end_of_padding_id)
    positions = [frame + 1 for frame, token in enumerate(tokens) if token not in silent]
    num_tokens = sum(map(len, words))
    if len(positions) < num_tokens:
        raise AlignmentError(f"alignment failed: {len(positions)} of {num_tokens} tokens matched")
    firsts = np.cumsum([0, *map(len, words)])[:-1]
    return [(positions[first] - layout.delay_steps) / layout.frame_rate_hz for first in firsts]
