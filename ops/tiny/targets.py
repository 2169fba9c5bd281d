"""Targets of the codec's training for each frame: the recent phones, and the recent word.

W windows, F frames, P phone places in a frame.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ops.tiny.pool import LABEL_FILE

FRAME_S = 0.08
PLACE_S = 0.02
NUM_PLACES = 8
# A phone is a target shortly after its start, a word once most of it has passed.
PHONE_LAG_S, WORD_LAG_S = 0.04, 0.34
SILENCE = 0


class StoredTensors:
    """Names to numbers; 0 is silence."""

    def __init__(self, names: Sequence[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(sorted(set(names)), start=1)}

    def __len__(self) -> int:
        return len(self._numbers) + 1

    def of(self, spans: Sequence[tuple[str, float, float]], moments_s: np.ndarray) -> np.ndarray:
        """The label at each of these times."""
        numbers = np.full(moments_s.shape, SILENCE, dtype=np.int64)
        for name, start_s, end_s in spans:
            numbers[(moments_s >= start_s) & (moments_s < end_s)] = self._numbers.get(name, SILENCE)
        return numbers


def frame_targets(
    labels: dict, num_frames: int, phones: StoredTensors, words: StoredTensors
) -> tuple[np.ndarray, np.ndarray]:
    """Phones [F, P] and words [F] of one window."""
    ends_s_F = (np.arange(num_frames) + 1) * FRAME_S
    places_s_P = (np.arange(NUM_PLACES) - NUM_PLACES + 0.5) * PLACE_S - PHONE_LAG_S
    phones_FP = phones.of(labels["phones"], ends_s_F[:, None] + places_s_P)
    return phones_FP, words.of(labels["words"], ends_s_F - WORD_LAG_S)


def pool_targets(pool: Path, num_frames: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Targets of all windows of a pool, and how many phones and words there are."""
    lines = (pool / LABEL_FILE).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    phones = StoredTensors([name for row in rows for name, _, _ in row["phones"]])
    words = StoredTensors([name for row in rows for name, _, _ in row["words"]])
    targets = [frame_targets(row, num_frames, phones, words) for row in rows]
    phones_WFP, words_WF = (np.stack(kind) for kind in zip(*targets, strict=True))
    return phones_WFP, words_WF, len(phones), len(words)
