"""One stream of audio on the server: samples in, steps and words out. Knows no protocol."""

# N samples, T steps, H VAD heads

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from nightscribe.model.prompting import Prompt, SpeechProcessor
from nightscribe.model.word_stream import WordEvent
from nightscribe.serving.engine_client import Channel, EngineClient, EngineError, Steps
from nightscribe.serving.metrics import Metrics


class NoChannelError(EngineError):
    """Every slot of the engine is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameOutput:
    """What one frame of a session gave."""

    step: int  # from 1: the frames of this stream so far
    vad_H: np.ndarray
    words: list[WordEvent]


@dataclass(slots=True, eq=False)
class Session:
    """Feeds one channel of the engine, and reads words from its output.

    With `prefix_frames` silence is encoded first, which the times of words do not count.
    """

    engine: EngineClient
    processor: SpeechProcessor
    metrics: Metrics
    on_frame: Callable[[FrameOutput], None]
    on_end: Callable[[list[WordEvent]], None]  # it was finished; the words that were left
    on_failure: Callable[[str], None]
    prompt: Prompt = field(default_factory=Prompt)
    temperature: float = 0.0
    prefix_frames: int = 0
    num_steps: int = 0  # since the last reset
    num_all_steps: int = 0
    _rest_N: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    _channel: Channel | None = None
    _words: Any = None

    async def open(self) -> None:
        """Take a slot; raises `NoChannelError` if there is none."""
        await self.engine.wait_for_release()
        channel = self.engine.open(self._settings(), self._on_steps, self.on_failure)
        if channel is None:
            raise NoChannelError("no free channels")
        self._begin(channel)

    def _begin(self, channel: Channel) -> None:
        self._channel = channel
        self._words = self.processor.word_stream(self.prompt, self.prefix_frames)
        channel.write_silence(self.prefix_frames)

    def _settings(self) -> dict[str, Any]:
        forced_tokens = self.processor.constraints(self.prompt).forced_tokens
        return {"forced_tokens": forced_tokens, "temperature": self.temperature}

    @property
    def _frame_samples(self) -> int:
        return self.engine.rings.shape.frame_samples

    @property
    def channel(self) -> Channel:
        assert self._channel is not None
        return self._channel

    @property
    def num_frames(self) -> int:
        """Whole frames that were fed since the last reset, the prefix included."""
        return self.channel.num_written

    @property
    def num_buffered(self) -> int:
        """Samples that wait for their step."""
        return self.channel.num_waiting * self._frame_samples + len(self._rest_N)

    async def feed(self, samples_N: np.ndarray) -> None:
        """Take samples in pieces of any length; waits while the engine is far behind."""
        samples_N = np.concatenate([self._rest_N, samples_N])
        end = len(samples_N) // self._frame_samples * self._frame_samples
        self._rest_N = samples_N[end:]
        await self.channel.write_all(samples_N[:end])

    async def finish(self, flush_frames: int = 0) -> None:
        """Fill up the last frame, feed silence, and end the stream after it."""
        missing = -len(self._rest_N) % self._frame_samples
        await self.feed(np.zeros(missing + flush_frames * self._frame_samples, np.int16))
        self.channel.close()

    def discard(self) -> None:
        """Forget the audio that waits, also what is not a whole frame yet."""
        self.channel.discard()
        self._rest_N = np.zeros(0, np.int16)

    def reset(self, prefix_frames: int = 0) -> None:
        """Begin again in the same slot; audio that waits stays."""
        self.num_steps, self.prefix_frames = 0, prefix_frames
        self._words = self.processor.word_stream(self.prompt, prefix_frames)
        self.channel.restart(self._settings(), prefix_frames)

    def end(self) -> None:
        """Give the slot back."""
        if self._channel is not None and not self._channel.is_released:
            self._channel.release()
            self.metrics.session_steps.observe(self.num_all_steps)

    def end_word(self) -> list[WordEvent]:
        """The end of the last word, if it has none yet."""
        return list(self._words.end_word())

    def _on_steps(self, steps: Steps) -> None:
        if not all(map(isfinite, steps.confidences)):
            self.on_failure("the model gave a number that is not finite")
            return
        rows = zip(steps.tokens, steps.confidences, steps.vad_TH, strict=True)
        for step, (token, confidence, vad_H) in enumerate(rows, start=steps.first_step):
            words = list(self._words.read(token, confidence))
            if step:  # the first step takes no audio
                self.num_steps, self.num_all_steps = step, self.num_all_steps + 1
                self.on_frame(FrameOutput(step, vad_H, words))
        if steps.is_last:
            self.on_end(list(self._words.end()))
