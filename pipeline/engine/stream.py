"""A stream that passes through a slot, and the model's output for it."""

# T steps of the stream, H VAD heads, E edges of a trie

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Samples(Protocol):
    """Anything that can be sliced like an array of int16; one chunk is read at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Samples to transcribe; the number of steps is known before the first one.

    Step 0 takes no audio; step p takes frame p - 1. What is beyond the samples is silence.
    """

    stream_id: Any  # the caller's name for it
    samples: Samples
    num_frames: int
    forced_tokens: tuple[int, ...] = ()  # the output of the first steps, instead of the model's
    prompt_tokens: tuple[int, ...] = ()  # output in this order before any other text
    term_edges_E3: np.ndarray | None = None  # the trie of terms to prefer, of the model's own
    temperature: float = 0.0  # 0 always takes the most likely token
    seed: int = 0
    num_silent_samples: int = 0  # silence before the samples

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

    def whole_samples(self, frame_samples: int) -> np.ndarray:
        """A copy of the samples of all frames, with all silence."""
        whole_N = np.zeros(self.num_frames * frame_samples, np.int16)
        own_N = self.samples[0 : max(len(whole_N) - self.num_silent_samples, 0)]
        whole_N[self.num_silent_samples : self.num_silent_samples + len(own_N)] = own_N
        return whole_N

    @property
    def num_steps(self) -> int:
        return self.num_frames + 1

    @property
    def num_ready_steps(self) -> int:
        """Steps whose audio is there: all of them."""
        return self.num_steps

    @property
    def is_open(self) -> bool:
        """Whether more frames may come."""
        return False

    @property
    def is_plain(self) -> bool:
        """Every token is the likeliest: none is forced, prompted, preferred or sampled."""
        has_tokens = self.forced_tokens or self.prompt_tokens
        has_choice = self.temperature or self.seed or self.term_edges_E3 is not None
        return not (has_tokens or has_choice)


@dataclass(frozen=True, slots=True, eq=False)
class StreamOutput:
    """The model's output for a whole stream, one row per step."""

    stream: Stream
    tokens_T: np.ndarray
    confidences_T: np.ndarray
    vad_TH: np.ndarray


class OutputBuffer:
    """Collects the output for one stream, round by round."""

    def __init__(self, stream: Stream, num_vad_heads: int) -> None:
        self.stream = stream
        self._tokens_T = np.empty(stream.num_steps, np.int32)
        self._confidences_T = np.empty(stream.num_steps, np.float32)
        self._vad_TH = np.empty((stream.num_steps, num_vad_heads), np.float32)

    def write(
        self, steps: slice, tokens_T: np.ndarray, confidences_T: np.ndarray, vad_TH: np.ndarray
    ) -> None:
        self._tokens_T[steps] = tokens_T
        self._confidences_T[steps] = confidences_T
        self._vad_TH[steps] = vad_TH

    def output(self) -> StreamOutput:
        return StreamOutput(self.stream, self._tokens_T, self._confidences_T, self._vad_TH)
