"""Where a speaker finishes, as the extra heads hear it: pure, free of torch.

Each head looks ahead by a horizon and says how sure it is that nobody speaks within it.

T steps, H heads.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nightscribe.records import Word

# Of the four horizons 0.5, 1, 2 and 3 s this one is neither hasty nor late.
TWO_SECONDS_HEAD = 2
SURE = 0.5
# Until it has heard a second the heads say anything.
SETTLING_STEPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTimes:
    """How steps become seconds of the recording; at step p the model has heard p frames."""

    frame_rate_hz: float
    lead_frames: int  # heard before the recording

    def heard_s(self, step: int) -> float:
        return (step - self.lead_frames) / self.frame_rate_hz


def turn_ends_s(
    quiet_TH: np.ndarray, words: Sequence[Word], times: HeadTimes, duration_s: float
) -> list[float]:
    """When the head becomes sure of silence ahead, at most once after each run of words."""
    if quiet_TH.shape[1] <= TWO_SECONDS_HEAD:
        return []
    is_sure_T = quiet_TH[:, TWO_SECONDS_HEAD] > SURE
    is_sure_T[:SETTLING_STEPS] = True
    becomes_sure = [
        times.heard_s(step)
        for step, (before, now) in enumerate(pairwise(is_sure_T.tolist()), start=1)
        if now and not before
    ]
    inside = [time_s for time_s in becomes_sure if 0 <= time_s <= duration_s]
    return _after_words(inside, [word.start_s for word in words])


def _after_words(times_s: Sequence[float], starts_s: Sequence[float]) -> list[float]:
    """Those of the times before which a word began since the one kept last."""
    kept: list[float] = []
    num_said = 0
    for time_s in times_s:
        now_said = bisect_right(starts_s, time_s)
        if now_said > num_said:
            kept.append(time_s)
            num_said = now_said
    return kept
