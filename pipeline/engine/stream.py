"""A stream on its way through a slot, and what was heard of it."""

# T steps of the stream, H heads of the model that say more than a token

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Samples(Protocol):
    """Anything that is cut like an array of int16; only one chunk of it is read at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Samples whose number of steps is known before the first one is heard.

    Step 0 hears nothing; step p hears frame p - 1. Silence is heard where the samples end early.
    """

    stream_id: Any  # whatever the caller knows it by
    samples: Samples
    num_frames: int
    forced_tokens: tuple[int, ...] = ()  # said at the first steps whatever the model thinks
    prompt_tokens: tuple[int, ...] = ()  # said in this order before anything else
    temperature: float = 0.0  # 0 always says the likeliest token
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"stream {self.stream_id!r} has temperature {self.temperature}")
        if self.num_frames < 1:
            raise ValueError(f"stream {self.stream_id!r} has {self.num_frames} frames")
        if len(self.forced_tokens) > self.num_steps:
            raise ValueError(
                f"stream {self.stream_id!r} has {self.num_steps} steps "
                f"but {len(self.forced_tokens)} forced tokens"
            )

    @property
    def num_steps(self) -> int:
        return self.num_frames + 1


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Everything the model said about one stream, one row per step."""

    stream: Stream
    tokens_T: np.ndarray
    confidences_T: np.ndarray
    heads_TH: np.ndarray


class Listening:
    """Collects what is said about a stream, round by round."""

    def __init__(self, stream: Stream, num_heads: int) -> None:
        self.stream = stream
        self._tokens_T = np.empty(stream.num_steps, np.int32)
        self._confidences_T = np.empty(stream.num_steps, np.float32)
        self._heads_TH = np.empty((stream.num_steps, num_heads), np.float32)

    def write(
        self, steps: slice, tokens_T: np.ndarray, confidences_T: np.ndarray, heads_TH: np.ndarray
    ) -> None:
        self._tokens_T[steps] = tokens_T
        self._confidences_T[steps] = confidences_T
        self._heads_TH[steps] = heads_TH

    def heard(self) -> Heard:
        return Heard(self.stream, self._tokens_T, self._confidences_T, self._heads_TH)
