"""Where a turn of live speech begins and ends, by the words and the model's own VAD heads.

At step p the model has heard p frames, but their words come up to its delay later: a turn that ends
at step p still gets the words that began before.
"""

# H VAD heads

from dataclasses import dataclass

import numpy as np

from nightscribe.model.words import TURN_HEAD, VAD_WARM_UP_STEPS

# Which horizon suits which eagerness: 0.5, 1, 2 and 3 s.
HEADS = {"high": 0, "auto": TURN_HEAD, "medium": 1, "low": 3}


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """Which VAD head ends a turn, and above which probability of a pause."""

    head: int = TURN_HEAD
    threshold: float = 0.5


@dataclass(slots=True)
class TurnDetector:
    """Follows one stream; `in_turn` is set by the first word of a turn."""

    detection: TurnDetection
    frame_s: float
    delay_steps: int
    prefix_frames: int
    in_turn: bool = False
    end_s: float | None = None  # of a turn whose last words may still come
    _due_step: int = 0

    def begins(self) -> bool:
        """A word has come; whether a turn begins with it."""
        begins, self.in_turn = not self.in_turn, True
        return begins

    def ends(self, step: int, vad_H: np.ndarray) -> bool:
        """Whether the speaker has just finished."""
        if not self.in_turn or self.end_s is not None or step < VAD_WARM_UP_STEPS:
            return False
        if vad_H[self.detection.head] <= self.detection.threshold:
            return False
        self.end_s = max((step - self.prefix_frames) * self.frame_s, 0.0)
        self._due_step = step + self.delay_steps + 1
        return True

    def is_complete(self, step: int) -> bool:
        """Whether the turn that ended has all its words; then the next one may begin."""
        if self.end_s is None or step < self._due_step:
            return False
        self.in_turn, self.end_s = False, None
        return True
