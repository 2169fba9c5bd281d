"""Where a turn of live speech begins and ends, by the words and the model's own VAD heads.

A turn ends where a head predicts a pause, or after a while without a word: a head may stay
undecided, and some models have none.

At step p the model has read p frames, but their words come up to its delay later: a turn that ends
at step p still gets the words that began before.
"""

# H VAD heads

from dataclasses import dataclass

import numpy as np

from nightscribe.model.word_timestamps import TURN_HEAD, VAD_WARM_UP_STEPS

# Which horizon suits which eagerness: 0.5, 1, 2 and 3 s.
HEADS = {"high": 0, "auto": TURN_HEAD, "medium": 1, "low": 3}


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """Which VAD head ends a turn, above which probability of a pause, or how much silence."""

    head: int = TURN_HEAD
    threshold: float = 0.5
    silence_s: float = 2.0


@dataclass(slots=True)
class TurnDetector:
    """Follows one stream; `in_turn` is set by the first word of a turn."""

    detection: TurnDetection
    frame_s: float
    delay_steps: int
    prefix_frames: int
    in_turn: bool = False
    end_s: float | None = None  # of a turn whose last words may still come
    _word_step: int = 0  # of the last word
    _due_step: int = 0

    def begins(self, step: int) -> bool:
        """A word has come; whether a turn begins with it."""
        begins, self.in_turn, self._word_step = not self.in_turn, True, step
        return begins

    def ends(self, step: int, vad_H: np.ndarray) -> bool:
        """Whether the speaker has just finished."""
        if not self.in_turn or self.end_s is not None:
            return False
        if self._is_pause(step, vad_H):
            heard_step, self._due_step = step, step + self.delay_steps + 1
        elif (step - self._word_step) * self.frame_s >= self.detection.silence_s:
            heard_step = self._due_step = step - self.delay_steps
        else:
            return False
        self.end_s = max((heard_step - self.prefix_frames) * self.frame_s, 0.0)
        return True

    def _is_pause(self, step: int, vad_H: np.ndarray) -> bool:
        is_ready = len(vad_H) > self.detection.head and step >= VAD_WARM_UP_STEPS
        return is_ready and bool(vad_H[self.detection.head] > self.detection.threshold)

    def is_complete(self, step: int) -> bool:
        """Whether the turn that ended has all its words; then the next one may begin."""
        if self.end_s is None or step < self._due_step:
            return False
        self.in_turn, self.end_s = False, None
        return True
