"""What is asked of a synthesizer, and what comes back.

N samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightscribe.errors import NightscribeError


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """A text to speak: turns of two speakers who alternate, and a voice for each."""

    request_id: str
    turns: tuple[str, ...]
    voices: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word as written, and when it is spoken."""

    text: str
    start_s: float
    end_s: float
    is_break: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Speech:
    """What was spoken."""

    request: SpeechRequest
    sample_rate_hz: int
    samples_N: NDArray[np.float32]
    words: tuple[SpokenWord, ...]
    num_steps: int = 0

    @property
    def duration_s(self) -> float:
        return len(self.samples_N) / self.sample_rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechFailure:
    """Why a text was not spoken."""

    request: SpeechRequest
    detail: str


class NotSpokenError(NightscribeError):
    """A text that was not spoken, and why as a code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTask:
    """A text, and the key of the file that it becomes."""

    request: SpeechRequest
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenFile:
    """A file that was written."""

    words: tuple[SpokenWord, ...]
    sample_rate_hz: int
    num_samples: int
    num_steps: int
