"""Streams whose end nobody knows: their frames are pushed while they run.

A live stream keeps its slot until it is closed or cancelled. Without a new frame it takes no step.
Its output goes to a function of its own after every round; the engine yields nothing for it.
"""

# T steps of a round, H VAD heads, N samples

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class LiveOutput:
    """The output of a live stream's next steps."""

    first_step: int
    tokens_T: np.ndarray
    confidences_T: np.ndarray
    vad_TH: np.ndarray
    is_last: bool  # the stream was closed, and these are its last steps


class LiveStream:
    """A stream that is fed while it runs; the engine's thread alone may call it."""

    term_edges_E3 = None
    num_silent_samples = 0
    is_plain = False  # asked for at every round, of few streams

    def __init__(
        self,
        stream_id: Any,
        on_output: Callable[[LiveOutput], None],
        frame_samples: int,
        *,
        forced_tokens: tuple[int, ...] = (),
        prompt_tokens: tuple[int, ...] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.stream_id, self.on_output = stream_id, on_output
        self.forced_tokens, self.prompt_tokens = forced_tokens, prompt_tokens
        self.temperature, self.seed = temperature, seed
        self.samples = _PushedFrames(frame_samples)
        self.is_open = True
        self.is_cancelled = False

    @property
    def num_frames(self) -> int:
        """Frames pushed so far."""
        return self.samples.num_frames

    @property
    def num_steps(self) -> int:
        return self.num_frames + 1

    @property
    def num_ready_steps(self) -> int:
        """Steps whose audio is there."""
        return self.num_steps

    def push(self, frames_N: np.ndarray) -> None:
        """Add whole frames."""
        if not self.is_open:
            raise RuntimeError(f"stream {self.stream_id!r} is closed; it takes no more frames")
        self.samples.push(frames_N)

    def close(self) -> None:
        """End the stream after the frames that were pushed."""
        self.is_open = False

    def cancel(self) -> None:
        """End the stream at once, without further output."""
        self.is_open, self.is_cancelled = False, True


class LiveSource(Protocol):
    """What a source of live streams has besides `take`, which gives them before other streams."""

    def receive(self, *, wait: bool) -> None:
        """Push what has come to the streams; with `wait`, block until something has."""


class _PushedFrames:
    """Samples pushed in whole frames; those that were read are forgotten."""

    def __init__(self, frame_samples: int) -> None:
        self._frame_samples = frame_samples
        self._frames: deque[np.ndarray] = deque()
        self._num_read = 0

    @property
    def num_frames(self) -> int:
        return self._num_read + len(self._frames)

    def push(self, frames_N: np.ndarray) -> None:
        if len(frames_N) % self._frame_samples:
            raise ValueError(
                f"{len(frames_N)} samples are not whole frames of {self._frame_samples} samples"
            )
        self._frames.extend(frames_N.reshape(-1, self._frame_samples))

    def __len__(self) -> int:
        return self.num_frames * self._frame_samples

    def __getitem__(self, span: slice) -> np.ndarray:
        first, end = span.start // self._frame_samples, span.stop // self._frame_samples
        if first != self._num_read:
            raise IndexError(f"frame {first} was read before, or out of order")
        self._num_read = end
        return np.concatenate([self._frames.popleft() for _ in range(first, end)])
