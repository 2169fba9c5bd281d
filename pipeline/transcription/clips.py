"""Sound to transcribe, how it becomes a stream, and how what was heard becomes words.

Knows what is said and heard before a clip and the silence around it; no files, recordings or
shards.
"""

# N samples, T steps, H extra heads

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nightscribe.engine.stream import Stream, StreamOutput
from nightscribe.model.prompting import Prompt, SpeechProcessor
from nightscribe.model.sampling import TokenConstraints
from nightscribe.records import Word


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Sound to transcribe: int16 at the model's rate."""

    clip_id: str
    samples_N: np.ndarray = field(repr=False)
    domain: str | None = None
    prompt: Prompt | None = None  # its own domain, if it names one, goes before the clip's
    temperature: float = 0.0  # at which tokens are drawn; 0 always says the likeliest
    seed: int = 0

    def __post_init__(self) -> None:
        found = f"{self.samples_N.dtype} of shape {self.samples_N.shape}"
        if self.samples_N.dtype != np.int16 or self.samples_N.ndim != 1:
            raise ValueError(f"clip {self.clip_id!r}: expected a row of int16 samples, got {found}")
        if not len(self.samples_N):
            raise ValueError(f"clip {self.clip_id!r} has no samples")
        if self.temperature < 0:
            raise ValueError(f"clip {self.clip_id!r} has temperature {self.temperature}, below 0")


@dataclass(frozen=True, slots=True, eq=False)
class HeardClip:
    """Words in seconds of the clip, and what the model said at every step."""

    clip_id: str
    words: list[Word]
    tokens_T: np.ndarray  # step 0 hears nothing, step p the frame p - 1 of prefix, clip and flush
    confidences_T: np.ndarray
    vad_TH: np.ndarray  # H is 0 for models without extra heads
    turn_ends_s: tuple[float, ...] = ()  # where the heads hear a speaker finish

    @property
    def num_steps(self) -> int:
        return len(self.tokens_T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """How a model is spoken to, and how its answer is read."""

    frame_samples: int
    prefix_frames: int
    flush_frames: int
    read_words: Callable[[Clip, StreamOutput], list[Word]]
    script: Callable[[Clip], TokenConstraints] = lambda clip: TokenConstraints()
    heard_samples: Callable[[Clip], np.ndarray] = lambda clip: clip.samples_N
    turn_ends_s: Callable[[Clip, StreamOutput, list[Word]], list[float]] = (
        lambda clip, heard, words: []
    )

    def padded(self, clip: Clip) -> tuple["PaddedSamples", int]:
        """The clip and the sound of its prompt between silences, and the frames of it all."""
        samples_N = self.heard_samples(clip)
        num_frames = self.prefix_frames + -(-len(samples_N) // self.frame_samples)
        num_frames += self.flush_frames
        offset, end = self.prefix_frames * self.frame_samples, num_frames * self.frame_samples
        return PaddedSamples(samples_N, offset, end), num_frames

    def stream(self, stream_id: Any, clip: Clip) -> Stream:
        """The clip as the engine takes it."""
        samples, num_frames = self.padded(clip)
        script = self.script(clip)
        return Stream(
            stream_id,
            samples,
            num_frames,
            forced_tokens=script.forced_tokens,
            prompt_tokens=script.prompt_tokens,
            temperature=clip.temperature,
            seed=clip.seed,
        )


def conversation(interpreter: SpeechProcessor) -> Conversation:
    """The conversation that a checkpoint's interpreter holds with each clip."""
    interpreted = _Interpreted(interpreter)
    return Conversation(
        frame_samples=interpreter.config.mimi.frame_samples,
        prefix_frames=interpreter.config.prefix_frames,
        flush_frames=interpreter.config.flush_frames,
        script=interpreted.script,
        heard_samples=interpreted.heard_samples,
        read_words=interpreted.read_words,
        turn_ends_s=interpreted.turn_ends_s,
    )


@dataclass(frozen=True, slots=True)
class _Interpreted:
    """What an interpreter makes of a clip and of its prompt."""

    interpreter: SpeechProcessor

    def prompt(self, clip: Clip) -> Prompt:
        usual = self.interpreter.prompt(clip.domain)
        if clip.prompt is None:
            return usual
        return replace(clip.prompt, domain=clip.prompt.domain or usual.domain)

    def script(self, clip: Clip) -> TokenConstraints:
        return self.interpreter.constraints(self.prompt(clip))

    def heard_samples(self, clip: Clip) -> np.ndarray:
        return self.interpreter.input_samples(clip.samples_N, self.prompt(clip))

    def read_words(self, clip: Clip, heard: StreamOutput) -> list[Word]:
        tokens, confidences = heard.tokens_T.tolist(), heard.confidences_T.tolist()
        prompt = self.prompt(clip)
        return self.interpreter.words(tokens, confidences, len(clip.samples_N), prompt)

    def turn_ends_s(self, clip: Clip, heard: StreamOutput, words: list[Word]) -> list[float]:
        num_samples, prompt = len(clip.samples_N), self.prompt(clip)
        return self.interpreter.turn_ends_s(heard.vad_TH, words, num_samples, prompt)


@dataclass(frozen=True, slots=True, eq=False)
class PaddedSamples:
    """Samples with silence before and after, joined only where they are cut."""

    samples_N: np.ndarray
    offset: int
    num_samples: int

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(self.num_samples)
        inside = self.samples_N[max(start - self.offset, 0) : max(stop - self.offset, 0)]
        before = min(max(self.offset - start, 0), stop - start)
        return np.pad(inside, (before, stop - start - before - len(inside)))
