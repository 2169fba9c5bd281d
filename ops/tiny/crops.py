"""Crops of the shards' windows, and all that is to be learnt of them.

B windows, T positions, F frames, P = F + 1 steps, D width, H heads.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightscribe.training.batches import CorruptionConfig, corrupted
from nightscribe.training.targets import (
    TextLayout,
    TimedTokens,
    delayed_text,
    speech_classes,
    text_inputs,
)
from ops.tiny.shards import shard_numbers
from ops.tiny.sizes import CONFIG, DELAY_FRAMES, MIMI
from ops.tiny.targets import StoredTensors, frame_targets

START_RATE = 0.25  # crops that begin where their window does
# Gaps of up to 240 ms in what the convolutions say.
MAX_GAPS, MAX_GAP_POSITIONS, ROUGHNESS = 3, 6, 0.05


class Crops(NamedTuple):
    convolved_BTD: Tensor
    text_BP: Tensor  # as it is heard: partly wrong
    written_BP: Tensor
    answers_BPH: Tensor
    phones_BFP: Tensor
    words_BF: Tensor


class _Shard(NamedTuple):
    convolved_WTD: np.ndarray
    words: list[list[TimedTokens]]
    phones_WFP: np.ndarray
    words_WF: np.ndarray


class CropLoader:
    """Draws crops from the shards that are there, also from those that come later."""

    def __init__(
        self,
        folder: Path,
        encode: Callable[[str], Sequence[int]],
        phones: StoredTensors,
        words: StoredTensors,
    ) -> None:
        self.folder, self.encode = folder, encode
        self._targets = partial(frame_targets, phones=phones, words=words)
        self._shards: dict[int, _Shard] = {}
        self.layout = TextLayout.of(CONFIG)

    def refresh(self) -> int:
        """Follow the folder; returns how many shards there are."""
        numbers = shard_numbers(self.folder)
        self._shards = {n: self._shards.get(n) or self._read(n) for n in numbers}
        return len(numbers)

    def _read(self, number: int) -> _Shard:
        path = self.folder / f"{number:06}.npy"
        convolved_WTD = np.load(path, mmap_mode="r")
        num_frames = convolved_WTD.shape[1] // MIMI.positions_per_frame
        lines = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        words = [
            [TimedTokens(tuple(self.encode(t)), s, e) for t, s, e in row["words"]] for row in rows
        ]
        targets = [self._targets(row, num_frames) for row in rows]
        phones_WFP, words_WF = (np.stack(kind) for kind in zip(*targets, strict=True))
        return _Shard(convolved_WTD, words, phones_WFP.astype(np.int16), words_WF.astype(np.int16))

    def draw(self, count: int, num_frames: int, rng: np.random.Generator) -> Crops:
        numbers = rng.choice(list(self._shards), count)
        places = [self._place(self._shards[n], num_frames, rng) for n in numbers]
        texts = [self._text(*place, num_frames) for place in places]
        silent = (self.layout.padding_id, self.layout.end_of_padding_id)
        others = np.arange(4, CONFIG.language_model.text_card)
        inputs_BP = np.stack([text_inputs(tokens, self.layout) for tokens in texts])
        convolved = [
            shard.convolved_WTD[w, MIMI.positions_per_frame * f :][
                : MIMI.positions_per_frame * num_frames
            ]
            for shard, w, f in places
        ]
        return Crops(
            torch.from_numpy(_roughened(np.stack(convolved).astype(np.float32), rng)),
            torch.from_numpy(corrupted(inputs_BP, silent, others, rng, CorruptionConfig())),
            torch.from_numpy(np.stack(texts)),
            torch.from_numpy(np.stack([self._answers(*place, num_frames) for place in places])),
            _stacked([s.phones_WFP[w, f : f + num_frames] for s, w, f in places]),
            _stacked([s.words_WF[w, f : f + num_frames] for s, w, f in places]),
        )

    def _place(
        self, shard: _Shard, num_frames: int, rng: np.random.Generator
    ) -> tuple[_Shard, int, int]:
        num_windows, num_positions = shard.convolved_WTD.shape[:2]
        last = num_positions // MIMI.positions_per_frame - num_frames
        first = 0 if rng.random() < START_RATE else int(rng.integers(last + 1))
        return shard, int(rng.integers(num_windows)), first

    def _text(self, shard: _Shard, window: int, first: int, num_frames: int) -> np.ndarray:
        """The text of a crop: words that began before it are not asked for."""
        window_frames = shard.convolved_WTD.shape[1] // MIMI.positions_per_frame
        whole = delayed_text(shard.words[window], window_frames, self.layout)
        text = whole[first : first + num_frames + 1].copy()
        if first:
            due = DELAY_FRAMES - 1
            text[:due] = self.layout.padding_id
            if text[due] != self.layout.end_of_padding_id:
                text[due] = self.layout.padding_id
        return text

    def _answers(self, shard: _Shard, window: int, first: int, num_frames: int) -> np.ndarray:
        positions_s = (first + np.arange(num_frames + 1)) / MIMI.frame_rate_hz
        return speech_classes(shard.words[window], positions_s, CONFIG.language_model.vad_head_dim)


def _stacked(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def _roughened(convolved_BTD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A little noise, and gaps."""
    noise = rng.standard_normal(convolved_BTD.shape, np.float32)
    convolved_BTD += ROUGHNESS * convolved_BTD.std() * noise
    for row_TD in convolved_BTD:
        for start in rng.integers(0, len(row_TD), rng.integers(0, MAX_GAPS + 1)):
            row_TD[start : start + rng.integers(1, MAX_GAP_POSITIONS + 1)] = 0
    return convolved_BTD
