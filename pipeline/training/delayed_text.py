"""What a model must write at each step: timed words as one delayed stream of tokens.

Position p hears frame p - 1; position 0 hears nothing. A word that begins at `start_s` is announced
by an end of padding at position `round(start_s * frame_rate) + delay - 1`, the rule by which words
get their times back, and its tokens follow at once. Between words there is padding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from nightscribe.model.config import SpeechToTextConfig


@dataclass(frozen=True, slots=True)
class TimedTokens:
    """A word as the tokens that write it, and when it is said, in seconds of its window."""

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
    """The conventions of a checkpoint's text stream."""

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
        """The position of the end of padding of a word that begins then."""
        return round(start_s * self.frame_rate_hz) + self.delay_steps - 1


def delayed_text(words: Iterable[TimedTokens], num_frames: int, layout: TextLayout) -> np.ndarray:
    """The token of each of `num_frames + 1` positions.

    A word that is due while the one before is still being written follows right after it; what
    does not fit before the end is left out, as the model will not have been asked for it.
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


def heard_text(tokens_P: np.ndarray, layout: TextLayout) -> np.ndarray:
    """What the model hears of its own text: the start id, then what it wrote a position before."""
    return np.concatenate(([layout.start_id], tokens_P[:-1]))


def prefixed(tokens_P: np.ndarray, prefix: Sequence[int]) -> np.ndarray:
    """The same stream with the forced tokens of a domain at its first positions."""
    spoken = tokens_P.copy()
    spoken[: len(prefix)] = prefix[: len(spoken)]
    return spoken
