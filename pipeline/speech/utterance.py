"""One text in a slot: what has been fed of it, and what it has produced so far.

K codebooks, N samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nightscribe.model.mimi_decoder import DecoderState
from nightscribe.model.tts.script import Entry
from nightscribe.model.tts.text_machine import NO_END
from nightscribe.speech.requests import SpeechRequest

FINAL_FRAMES = 4  # of audio after the last word has been fed


class FedEntry(NamedTuple):
    """A word or a break, the step at which it began, and that at which the next one did."""

    entry: Entry
    start_step: int
    end_step: int


@dataclass(slots=True, eq=False)
class Utterance:
    """A text in a slot. Steps and frames count from its first step, with its audio prompt."""

    request: SpeechRequest
    slot: int
    entries: list[Entry]
    num_prompt_frames: int
    frames_per_piece: int  # that are decoded together
    decoding: DecoderState
    is_whole: bool  # whether no more text will come
    codes: list[Tensor] = field(default_factory=list)  # of every step, with delays
    consumed_at: list[int] = field(default_factory=list)  # the step at which each entry began
    end_step: int = NO_END
    num_decoded: int = field(init=False)
    last_speaker: int | None = None  # of text that was appended
    num_told: int = 0  # entries that `take_fed` has given
    _pieces: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.num_decoded = self.num_prompt_frames

    @property
    def has_ended(self) -> bool:
        """Whether all its text has been fed; its last frames may still be due."""
        return self.end_step != NO_END

    def num_frames(self) -> int | None:
        """All its frames, once it is known where it ends."""
        return self.end_step + FINAL_FRAMES if self.has_ended else None

    def may_step(self, words_ahead: int) -> bool:
        """Whether the text of its next step is here: what is fed may not depend on when it came."""
        if self.is_whole:
            return True
        waiting = self.entries[len(self.consumed_at) :]
        if waiting and not waiting[0].tokens:
            return True
        return sum(bool(entry.tokens) for entry in waiting) > words_ahead

    def add(self, samples_N: NDArray[np.float32]) -> None:
        self._pieces.append(samples_N)

    def take_samples(self) -> NDArray[np.float32]:
        """What was decoded since the last call."""
        taken, self._pieces = self._pieces, []
        return np.concatenate(taken) if taken else np.zeros(0, np.float32)

    def take_fed(self) -> Iterator[FedEntry]:
        """Every entry whose end is known, once."""
        bounds = [*self.consumed_at, *([self.end_step] if self.has_ended else [])]
        while self.num_told < len(bounds) - 1:
            number = self.num_told
            self.num_told += 1
            yield FedEntry(self.entries[number], bounds[number], bounds[number + 1])
