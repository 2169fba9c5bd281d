"""One text in a slot: what has been fed of it, and what it has produced so far.

K codebooks, N samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    delay_steps: int  # until a frame has all its codes
    is_whole: bool  # whether no more text will come
    num_queued: int = 0  # steps that the device will have done
    num_steps: int = 0  # of these, whose outcome is known here
    consumed_at: list[int] = field(default_factory=list)  # the step at which each entry began
    end_step: int = NO_END
    num_decoding: int = field(init=False)  # frames that the decoder will have done
    num_decoded: int = field(init=False)  # of these, whose samples are here
    last_speaker: int | None = None  # of text that was appended
    num_told: int = 0  # entries that `take_fed` has given
    _pieces: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.num_decoding = self.num_decoded = self.num_prompt_frames

    @property
    def has_ended(self) -> bool:
        """Whether all its text has been fed; its last frames may still be due."""
        return self.end_step != NO_END

    @property
    def is_complete(self) -> bool:
        """Whether its last frame has been decoded."""
        return self.num_decoded == self.num_frames()

    def num_frames(self) -> int | None:
        """All its frames, once it is known where it ends."""
        return self.end_step + FINAL_FRAMES if self.has_ended else None

    def may_step(self, words_ahead: int) -> bool:
        """Whether the text of its next step is here: what is fed may not depend on when it came.

        Each step whose outcome is not known yet may have begun an entry.
        """
        num_frames = self.num_frames()
        if num_frames is not None and self.num_queued >= num_frames + self.delay_steps:
            return False
        num_unknown = self.num_queued - self.num_steps
        return self.is_whole or all(
            self._has_text(len(self.consumed_at) + num_begun, words_ahead)
            for num_begun in range(num_unknown + 1)
        )

    def _has_text(self, num_consumed: int, words_ahead: int) -> bool:
        waiting = self.entries[num_consumed:]
        if waiting and not waiting[0].tokens:
            return True
        return sum(bool(entry.tokens) for entry in waiting) > words_ahead

    def note_step(self, is_consumed: bool, end_step: int) -> None:
        """The outcome of its next step."""
        if is_consumed:
            self.consumed_at.append(self.num_steps)
        self.num_steps += 1
        self.end_step = end_step

    def due_frames(self) -> int:
        """How many frames are to be decoded now: a whole piece, or the last ones."""
        end, num_frames = self.num_steps - self.delay_steps, self.num_frames()
        if num_frames is not None:
            end = min(end, num_frames)
        num_due = min(end - self.num_decoding, self.frames_per_piece)
        is_due = num_due == self.frames_per_piece or end == num_frames
        return num_due if is_due and num_due > 0 else 0

    def add(self, samples_N: NDArray[np.float32], num_frames: int) -> None:
        self._pieces.append(samples_N)
        self.num_decoded += num_frames

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
