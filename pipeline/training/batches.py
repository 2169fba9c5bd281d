"""Windows to tensors: the inputs of the language model at each position, and its targets.

Text inputs are corrupted at random. A model trained on perfect text alone learns sentences by
heart: at inference one wrong word then leads to more.

S windows, N samples, F frames, P = F + 1 positions, K codebooks, H extra heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.mimi import Mimi
from nightscribe.options import check_options, option
from nightscribe.training.targets import (
    HORIZONS_S,
    TextLayout,
    delayed_text,
    prefixed,
    speech_classes,
    text_inputs,
)
from nightscribe.training.windows import Window


@dataclass(frozen=True, kw_only=True, slots=True)
class CorruptionConfig:
    """How the text tokens that the model reads are corrupted."""

    word_rate: float = option(
        0.3, "share of text tokens replaced in a corrupted window", minimum=0, maximum=1
    )
    window_rate: float = option(0.8, "share of windows that are corrupted", minimum=0, maximum=1)

    def __post_init__(self) -> None:
        check_options(self, "corruption")


class Batch(NamedTuple):
    """One row per window; `is_scored_SP` leaves forced tokens out of the loss."""

    codes_SPK: Tensor
    inputs_SP: Tensor
    targets_SP: Tensor
    is_scored_SP: Tensor
    head_targets_SPH: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.codes_SPK.to(device),
            self.inputs_SP.to(device),
            self.targets_SP.to(device),
            self.is_scored_SP.to(device),
            None if self.head_targets_SPH is None else self.head_targets_SPH.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMaker:
    """Turns windows into batches in the layout of one checkpoint."""

    config: SpeechToTextConfig
    mimi: Mimi
    corruption: CorruptionConfig
    prefixes: Mapping[str, tuple[int, ...]]  # domain -> the tokens forced at its first steps

    def make(self, windows: Sequence[Window], rng: np.random.Generator) -> Batch:
        codes_SFK = self._codes(np.stack([window.samples_N for window in windows]))
        layout, num_frames = TextLayout.of(self.config), codes_SFK.shape[1]
        prefixes = [self._prefix(window) for window in windows]
        targets = [delayed_text(w.words, num_frames, layout) for w in windows]
        targets = [prefixed(w, prefix) for w, prefix in zip(targets, prefixes, strict=True)]
        targets_SP = np.stack(targets)
        inputs_SP = np.stack([text_inputs(tokens_P, layout) for tokens_P in targets_SP])
        inputs_SP = self._corrupted(inputs_SP, prefixes, rng)
        return Batch(
            codes_SPK=self._with_start(codes_SFK),
            inputs_SP=torch.from_numpy(inputs_SP),
            targets_SP=torch.from_numpy(targets_SP),
            is_scored_SP=torch.from_numpy(_is_scored(prefixes, num_frames + 1)),
            head_targets_SPH=self._head_targets(windows, num_frames),
        ).to(codes_SFK.device)

    def _codes(self, samples_SN: np.ndarray) -> Tensor:
        """The codes of a stream: the codec starts from its initial state."""
        device = self.mimi.downsample.conv.weight.device
        waveforms_SN = torch.from_numpy(samples_SN).to(device)
        state = self.mimi.initial_state(len(waveforms_SN))
        fresh_S = torch.ones(len(waveforms_SN), dtype=torch.bool, device=device)
        return self.mimi.encode(waveforms_SN, state, fresh_S)

    def _with_start(self, codes_SFK: Tensor) -> Tensor:
        """Position 0 has no audio."""
        no_audio = codes_SFK.new_full((), self.config.language_model.audio_card)
        return torch.cat((no_audio.expand_as(codes_SFK[:, :1]), codes_SFK), dim=1)

    def _prefix(self, window: Window) -> tuple[int, ...]:
        return self.prefixes.get(window.domain, ()) if window.domain is not None else ()

    def _corrupted(
        self, inputs_SP: np.ndarray, prefixes: Sequence[tuple[int, ...]], rng: np.random.Generator
    ) -> np.ndarray:
        language_model = self.config.language_model
        silent = (language_model.padding_id, language_model.end_of_padding_id)
        replacements = np.setdiff1d(np.arange(language_model.text_card), silent)
        corrupted_SP = corrupted(inputs_SP, silent, replacements, rng, self.corruption)
        # Forced tokens are not corrupted; they are inputs one position after they were targets.
        is_free_SP = np.roll(_is_scored(prefixes, inputs_SP.shape[1]), 1, axis=1)
        return np.where(is_free_SP, corrupted_SP, inputs_SP)

    def _head_targets(self, windows: Sequence[Window], num_frames: int) -> Tensor | None:
        language_model = self.config.language_model
        if language_model.num_vad_heads != len(HORIZONS_S):
            return None
        positions_s_P = np.arange(num_frames + 1) / self.config.mimi.frame_rate_hz
        targets = [
            speech_classes(window.words, positions_s_P, language_model.vad_head_dim)
            for window in windows
        ]
        return torch.from_numpy(np.stack(targets))


def _is_scored(prefixes: Sequence[tuple[int, ...]], num_positions: int) -> np.ndarray:
    lengths_S1 = np.array([[len(prefix)] for prefix in prefixes])
    return np.arange(num_positions) >= lengths_S1


def corrupted(
    inputs_SP: np.ndarray,
    silent_ids: tuple[int, ...],
    replacements: np.ndarray,
    rng: np.random.Generator,
    config: CorruptionConfig,
) -> np.ndarray:
    """Replace text tokens by others or by padding; the first position, the start id, stays."""
    padding_id = silent_ids[0]
    is_corrupted_S1 = rng.random((len(inputs_SP), 1)) < config.window_rate
    is_hit_SP = is_corrupted_S1 & (rng.random(inputs_SP.shape) < config.word_rate)
    is_hit_SP &= ~np.isin(inputs_SP, silent_ids)
    is_hit_SP[:, 0] = False
    others_SP = rng.choice(replacements, inputs_SP.shape)
    others_SP = np.where(rng.random(inputs_SP.shape) < 0.5, others_SP, padding_id)
    return np.where(is_hit_SP, others_SP, inputs_SP)
