"""Whether the VAD heads predict silence within their horizons better than chance.

F frames, H horizons (heads).
"""

from collections.abc import Iterable

import numpy as np

from nightscribe.training.targets import HORIZONS_S, TimedTokens, speech_classes

SURE = 0.5


def measure_heads(
    words: Iterable[TimedTokens], quiet_FH: np.ndarray, frame_rate_hz: float
) -> dict[str, dict[str, float]]:
    """For each horizon: how often silence lies ahead, how often that is said rightly, the AUC."""
    heard_s_F = np.arange(1, len(quiet_FH) + 1) / frame_rate_hz
    is_quiet_FH = speech_classes(words, heard_s_F, num_classes=2) == 0
    return {
        f"{horizon_s:g} s": {
            "quiet_share": float(is_quiet_F.mean()),
            "right": float(((quiet_F > SURE) == is_quiet_F).mean()),
            "auc": area_under_curve(quiet_F[is_quiet_F], quiet_F[~is_quiet_F]),
        }
        for horizon_s, is_quiet_F, quiet_F in zip(
            HORIZONS_S, is_quiet_FH.T, quiet_FH.T, strict=True
        )
    }


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """How likely a positive one scores above a negative one; half of the ties."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).mean() / 2 / len(negative))
