"""What a transcriber takes and returns, without torch: the driver of a run imports this too."""

# N samples, T steps, H extra heads

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nightscribe.records import Span, Voice, Word

if TYPE_CHECKING:
    from nightscribe.model.prompting import Prompt


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A waveform to transcribe: int16 at the sample rate of the model."""

    clip_id: str
    samples_N: np.ndarray = field(repr=False)
    domain: str | None = None
    prompt: "Prompt | None" = None  # its domain, if it has one, replaces that of the clip
    terms: tuple[str, ...] = ()  # names and rare words to prefer in it
    temperature: float = 0.0  # 0 always takes the likeliest token
    seed: int = 0
    # Where somebody speaks, in seconds of the clip; None: the transcriber measures it.
    speech: tuple[Span, ...] | None = None

    def __post_init__(self) -> None:
        found = f"{self.samples_N.dtype} of shape {self.samples_N.shape}"
        if self.samples_N.dtype != np.int16 or self.samples_N.ndim != 1:
            raise ValueError(f"clip {self.clip_id!r}: expected a row of int16 samples, got {found}")
        if not len(self.samples_N):
            raise ValueError(f"clip {self.clip_id!r} has no samples")
        if self.temperature < 0:
            raise ValueError(f"clip {self.clip_id!r} has temperature {self.temperature}, below 0")


@dataclass(frozen=True, slots=True, eq=False)
class ClipTranscript:
    """The final words in seconds of the clip, and the tokens of the first pass over it."""

    clip_id: str
    words: tuple[Word, ...]
    tokens_T: np.ndarray  # step 0 has no input, step p has frame p - 1 of prefix, clip and flush
    confidences_T: np.ndarray
    vad_TH: np.ndarray  # H is 0 for models without extra heads
    turn_ends_s: tuple[float, ...] = ()  # where the extra heads detect the end of a turn
    speech: tuple[Span, ...] = ()
    num_redecoded: int = 0  # stalled spans whose words come from a retry
    voices: tuple[Voice, ...] = ()  # where speakers are told apart

    @property
    def num_steps(self) -> int:
        return len(self.tokens_T)
