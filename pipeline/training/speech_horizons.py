"""What the extra heads must answer: how soon somebody speaks.

A head looks ahead by its horizon. Answer 0 is "nobody speaks within it"; the others part the
horizon evenly and say in which part speech is first heard, the first one if it is heard already.

P positions, H horizons (heads).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from nightscribe.training.delayed_text import TimedTokens

# Of the published heads.
HORIZONS_S = (0.5, 1.0, 2.0, 3.0)


def speech_answers(
    words: Iterable[TimedTokens],
    heard_s_P: np.ndarray,
    num_answers: int,
    horizons_s: Sequence[float] = HORIZONS_S,
) -> np.ndarray:
    """The right answer of each head at positions that have heard so many seconds: [P, H]."""
    wait_s_P1 = _seconds_to_speech(words, heard_s_P)[:, None]
    horizons_s_H = np.array(horizons_s)
    num_parts = num_answers - 1
    part_PH = np.minimum(wait_s_P1 / horizons_s_H * num_parts, num_parts - 1)
    return np.where(wait_s_P1 >= horizons_s_H, 0, 1 + part_PH.astype(np.int64))


def _seconds_to_speech(words: Iterable[TimedTokens], heard_s_P: np.ndarray) -> np.ndarray:
    """Until the next word begins: 0 within one, infinite after the last."""
    spans = sorted((word.start_s, word.end_s) for word in words)
    starts_s = np.array([*(start_s for start_s, _ in spans), np.inf])
    # Ends of overlapping speech must not fall behind one another for the search below.
    ends_s = np.maximum.accumulate([*(end_s for _, end_s in spans), np.inf])
    unfinished_P = np.searchsorted(ends_s, heard_s_P, side="right")
    return np.maximum(starts_s[unfinished_P] - heard_s_P, 0.0)
