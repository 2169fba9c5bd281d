"""Windows to tensors: what the language model hears at each position, and what it must write.

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
from nightscribe.training.delayed_text import TextLayout, delayed_text, heard_text, prefixed
from nightscribe.training.speech_horizons import HORIZONS_S, speech_answers
from nightscribe.training.token_corruption import CorruptionConfig, corrupted
from nightscribe.training.windows import Window


class Batch(NamedTuple):
    """Positions of all windows side by side; `is_asked_SP` leaves out what is forced anyway."""

    codes_SPK: Tensor
    heard_SP: Tensor
    written_SP: Tensor
    is_asked_SP: Tensor
    answers_SPH: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.codes_SPK.to(device),
            self.heard_SP.to(device),
            self.written_SP.to(device),
            self.is_asked_SP.to(device),
            None if self.answers_SPH is None else self.answers_SPH.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMaker:
    """Turns windows into batches by the conventions of one checkpoint."""

    config: SpeechToTextConfig
    mimi: Mimi
    corruption: CorruptionConfig
    prefixes: Mapping[str, tuple[int, ...]]  # domain -> the tokens forced at its first steps

    def make(self, windows: Sequence[Window], rng: np.random.Generator) -> Batch:
        codes_SFK = self._codes(np.stack([window.samples_N for window in windows]))
        layout, num_frames = TextLayout.of(self.config), codes_SFK.shape[1]
        prefixes = [self._prefix(window) for window in windows]
        written = [delayed_text(w.words, num_frames, layout) for w in windows]
        written = [prefixed(w, prefix) for w, prefix in zip(written, prefixes, strict=True)]
        written_SP = np.stack(written)
        heard_SP = np.stack([heard_text(tokens_P, layout) for tokens_P in written_SP])
        heard_SP = self._spoilt(heard_SP, prefixes, rng)
        return Batch(
            codes_SPK=self._from_nothing(codes_SFK),
            heard_SP=torch.from_numpy(heard_SP),
            written_SP=torch.from_numpy(written_SP),
            is_asked_SP=torch.from_numpy(_is_asked(prefixes, num_frames + 1)),
            answers_SPH=self._answers(windows, num_frames),
        ).to(codes_SFK.device)

    def _codes(self, samples_SN: np.ndarray) -> Tensor:
        """The codes a stream would get: the codec hears from its own beginning."""
        device = self.mimi.downsample.conv.weight.device
        heard_SN = torch.from_numpy(samples_SN).to(device)
        state = self.mimi.initial_state(len(heard_SN))
        fresh_S = torch.ones(len(heard_SN), dtype=torch.bool, device=device)
        return self.mimi.encode(heard_SN, state, fresh_S)

    def _from_nothing(self, codes_SFK: Tensor) -> Tensor:
        """Position 0 hears no sound."""
        nothing = codes_SFK.new_full((), self.config.language_model.audio_card)
        return torch.cat((nothing.expand_as(codes_SFK[:, :1]), codes_SFK), dim=1)

    def _prefix(self, window: Window) -> tuple[int, ...]:
        return self.prefixes.get(window.domain, ()) if window.domain is not None else ()

    def _spoilt(
        self, heard_SP: np.ndarray, prefixes: Sequence[tuple[int, ...]], rng: np.random.Generator
    ) -> np.ndarray:
        language_model = self.config.language_model
        silent = (language_model.padding_id, language_model.end_of_padding_id)
        replacements = np.setdiff1d(np.arange(language_model.text_card), silent)
        spoilt_SP = corrupted(heard_SP, silent, replacements, rng, self.corruption)
        # Forced tokens are heard as they are, one position after they were written.
        is_free_SP = np.roll(_is_asked(prefixes, heard_SP.shape[1]), 1, axis=1)
        return np.where(is_free_SP, spoilt_SP, heard_SP)

    def _answers(self, windows: Sequence[Window], num_frames: int) -> Tensor | None:
        language_model = self.config.language_model
        if language_model.num_vad_heads != len(HORIZONS_S):
            return None
        heard_s_P = np.arange(num_frames + 1) / self.config.mimi.frame_rate_hz
        answers = [
            speech_answers(window.words, heard_s_P, language_model.vad_head_dim)
            for window in windows
        ]
        return torch.from_numpy(np.stack(answers))


def _is_asked(prefixes: Sequence[tuple[int, ...]], num_positions: int) -> np.ndarray:
    lengths_S1 = np.array([[len(prefix)] for prefix in prefixes])
    return np.arange(num_positions) >= lengths_S1
