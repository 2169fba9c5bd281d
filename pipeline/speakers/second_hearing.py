"""Speech that the segmentation network takes for silence, such as voices with an effect on them.

Sound without a speaker that is nearly as loud as the rest is heard again, by Silero VAD. Pauses are
not: most recordings have no such sound, and pay nothing.

W windows, N samples, T frames of segmentation, K local speakers, S steps of Silero VAD.
"""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nightscribe.speakers.activity_network import IS_SPEECH, STEP, speech_probabilities
from nightscribe.speakers.segmentation_network import (
    FIRST_FRAME_S,
    FRAME_S,
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
)

FRAME_REACH = 991  # samples of a frame
LOUD_PERCENTILE, QUIETER_DB, SILENT_DBFS = 95, 15.0, -60.0
MIN_SUSPICIOUS_S = 0.5  # of a window
MIN_UNHEARD_S = 0.3  # of a run


def with_unheard(sound_WN: Tensor, active_WTK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One more local speaker in each window: whoever speaks where no speaker was found."""
    is_silent_WT = active_WTK.sum(axis=2) == 0
    suspicious_WT = is_silent_WT & _is_loud(sound_WN)
    asked_W = np.flatnonzero(suspicious_WT.sum(axis=1) * FRAME_S >= MIN_SUSPICIOUS_S)
    unheard_WT = np.zeros_like(is_silent_WT)
    if len(asked_W):
        speech_WT = _is_speech(sound_WN[asked_W.tolist()], is_silent_WT.shape[1])
        unheard_WT[asked_W] = _without_short_runs(speech_WT & is_silent_WT[asked_W])
    return np.concatenate([active_WTK, unheard_WT[:, :, None]], axis=2)


def _is_loud(sound_WN: Tensor) -> NDArray[np.bool_]:
    """Whether each frame is not much quieter than the loud ones of all windows."""
    power_WT = F.avg_pool1d(sound_WN[:, None].square(), FRAME_REACH, FRAME_SAMPLES)[:, 0]
    level_WT = 10 * power_WT.clamp(min=1e-12).log10().cpu().numpy()
    loud_db = float(np.percentile(level_WT, LOUD_PERCENTILE))
    return level_WT > max(loud_db - QUIETER_DB, SILENT_DBFS)


def _is_speech(sound_WN: Tensor, num_frames: int) -> NDArray[np.bool_]:
    is_speech_WS = (speech_probabilities(sound_WN.cpu()) > IS_SPEECH).numpy()
    middles_s = FIRST_FRAME_S + FRAME_S * np.arange(num_frames)
    steps_T = (middles_s * SAMPLE_RATE_HZ / STEP).astype(int).clip(0, is_speech_WS.shape[1] - 1)
    return is_speech_WS[:, steps_T]


def _without_short_runs(flags_WT: NDArray[np.bool_]) -> NDArray[np.bool_]:
    kept_WT = np.zeros_like(flags_WT)
    for flags_T, kept_T in zip(flags_WT, kept_WT, strict=True):
        for first, end in runs(flags_T):
            kept_T[first:end] = (end - first) * FRAME_S >= MIN_UNHEARD_S
    return kept_WT


def runs(flags_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First index and end of every run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags_T.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
