"""A whole checkpoint at work: waveforms in, tokens out, by the conventions of the reference.

Step 0 takes no audio, only the start ids; step p takes frame p - 1 and the token of step p - 1. So
F frames take F + 1 steps, and `tokens[i]` is the output for frame i.

This is the plain implementation, with all rows in lockstep, which the faster ones are tested
against.

S slots (one per waveform), N samples, F frames, K codebooks, H VAD heads, A classes of a VAD head.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.kv_cache import KVCache
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import FULL_SCALE, Mimi
from nightscribe.model.sampling import (
    BatchConstraints,
    Sampling,
    TokenConstraints,
    probabilities_of,
    sample,
)

GREEDY = Sampling()
FRAMES_PER_PIECE = 25  # encoded at once
Tensors = Iterable[tuple[str, Tensor]]


class StepOutput(NamedTuple):
    """The output of every slot at one step."""

    tokens_S: Tensor
    probabilities_S: Tensor
    vad_SHA: Tensor | None


class FrameOutputs(NamedTuple):
    """The output for each frame of each waveform."""

    tokens_SF: Tensor
    probabilities_SF: Tensor  # the model's own, of these tokens
    vad_SFHA: Tensor | None  # probabilities of the VAD heads' classes
    start_tokens_S: Tensor  # the output of the start step, which takes no audio

    def write(self, frame: int, output: StepOutput) -> None:
        self.tokens_SF[:, frame] = output.tokens_S
        self.probabilities_SF[:, frame] = output.probabilities_S
        if self.vad_SFHA is not None and output.vad_SHA is not None:
            self.vad_SFHA[:, frame] = output.vad_SHA


@dataclass(slots=True)
class StepState:
    """State of every slot between two steps; updated in place."""

    cache: KVCache
    last_tokens_S: Tensor
    constraints: BatchConstraints | None = None


class SpeechToText:
    """Mimi, the language model and the conventions between them."""

    def __init__(
        self, config: SpeechToTextConfig, mimi: Mimi, language_model: LanguageModel
    ) -> None:
        if mimi.config.num_codebooks != language_model.config.num_codebooks:
            raise ValueError(
                f"the codec makes {mimi.config.num_codebooks} codes a frame, "
                f"the language model takes {language_model.config.num_codebooks}"
            )
        self.config = config
        self.mimi = mimi
        self.language_model = language_model

    @classmethod
    def load(
        cls,
        config: SpeechToTextConfig,
        mimi_tensors: Tensors,
        language_model_tensors: Tensors,
        device: torch.device | str,
        dtype: torch.dtype,
        *,
        weight_format: str | None = None,
    ) -> Self:
        """Build from native tensors; the codec makes only the codes that the language model takes.

        `weight_format` as in `LanguageModel.load`.
        """
        mimi_config = replace(config.mimi, num_codebooks=config.language_model.num_codebooks)
        mimi = Mimi.load(mimi_config, mimi_tensors, device)
        language_model = LanguageModel.load(
            config.language_model,
            language_model_tensors,
            device,
            dtype,
            weight_format=weight_format,
        )
        return cls(config, mimi, language_model)

    @property
    def device(self) -> torch.device:
        return self.language_model.norm.scale_D.device

    @property
    def padding_tokens(self) -> tuple[int, int]:
        """The tokens that are allowed between those of a prompt."""
        config = self.config.language_model
        return config.end_of_padding_id, config.padding_id

    def transcribe(
        self,
        samples_SN: np.ndarray,
        constraints: Sequence[TokenConstraints] | None = None,
        sampling: Sampling = GREEDY,
    ) -> FrameOutputs:
        """Transcribe waveforms of one length, prefix and flush added."""
        num_slots, num_frames = len(samples_SN), self.config.num_frames(samples_SN.shape[1])
        state = self.initial_state(num_slots, constraints)
        outputs = self._empty_outputs(num_slots, num_frames)
        fresh_S = torch.ones(num_slots, dtype=torch.bool, device=self.device)
        no_codes_SK = fresh_S.new_zeros(
            num_slots, self.mimi.config.num_codebooks, dtype=torch.int64
        )
        start = self.step(no_codes_SK, state, fresh_S, sampling, kv_length=1)
        outputs.start_tokens_S.copy_(start.tokens_S)
        later_S = torch.zeros_like(fresh_S)
        every_codes_SK = (codes for piece in self.encode(samples_SN) for codes in piece.unbind(1))
        for frame, codes_SK in enumerate(every_codes_SK):
            output = self.step(codes_SK, state, later_S, sampling, kv_length=frame + 2)
            outputs.write(frame, output)
        return outputs

    def encode(self, samples_SN: np.ndarray) -> Iterator[Tensor]:
        """Codes SFK of prefix, waveforms and flush, a piece at a time."""
        num_rows, frame_samples = len(samples_SN), self.config.mimi.frame_samples
        state = self.mimi.initial_state(num_rows, FRAMES_PER_PIECE)
        fresh_S = torch.ones(num_rows, dtype=torch.bool, device=self.device)
        num_frames = self.config.num_frames(samples_SN.shape[1])
        for first_frame in range(0, num_frames, FRAMES_PER_PIECE):
            end_frame = min(first_frame + FRAMES_PER_PIECE, num_frames)
            first, end = first_frame * frame_samples, end_frame * frame_samples
            yield self.mimi.encode(self._padded(samples_SN, first, end), state, fresh_S)
            fresh_S = torch.zeros_like(fresh_S)

    def initial_state(
        self, num_slots: int, constraints: Sequence[TokenConstraints] | None = None
    ) -> StepState:
        batch = None
        if constraints:
            batch = BatchConstraints.of(constraints, self.padding_tokens, self.device)
        return StepState(
            cache=self.language_model.empty_cache(num_slots),
            last_tokens_S=torch.zeros(num_slots, dtype=torch.int64, device=self.device),
            constraints=batch,
        )

    def step(
        self,
        codes_SK: Tensor,
        state: StepState,
        fresh_S: Tensor,
        sampling: Sampling = GREEDY,
        kv_length: int | None = None,
    ) -> StepOutput:
        """One frame in, one token out for every slot; fresh slots take the start ids instead.

        `kv_length` bounds the positions of all slots, as in `Transformer.extend`.
        """
        config = self.language_model.config
        codes_SK = codes_SK.masked_fill(fresh_S[:, None], config.audio_card)
        text_S = state.last_tokens_S.masked_fill(fresh_S, config.text_start_id)
        prediction = self.language_model.extend(
            codes_SK[:, None], text_S[:, None], state.cache, fresh_S, kv_length
        )
        logits_SV = prediction.logits_STV[:, 0]
        state.last_tokens_S = self._next_tokens(logits_SV, state, sampling)
        vad_SHA = None if prediction.vad_STHA is None else prediction.vad_STHA[:, 0]
        return StepOutput(
            state.last_tokens_S, probabilities_of(state.last_tokens_S, logits_SV), vad_SHA
        )

    def _next_tokens(self, logits_SV: Tensor, state: StepState, sampling: Sampling) -> Tensor:
        positions_S = state.cache.next_positions_B - 1
        if state.constraints is None:
            return sample(logits_SV, sampling, positions_S)
        tokens_S = sample(state.constraints.constrain(logits_SV), sampling, positions_S)
        return state.constraints.force(tokens_S, positions_S)

    def _empty_outputs(self, num_slots: int, num_frames: int) -> FrameOutputs:
        config = self.language_model.config
        shape, heads = (num_slots, num_frames), (config.num_vad_heads, config.vad_head_dim)
        return FrameOutputs(
            torch.empty(shape, dtype=torch.int64, device=self.device),
            torch.empty(shape, device=self.device),
            torch.empty(*shape, *heads, device=self.device) if config.num_vad_heads else None,
            torch.empty(num_slots, dtype=torch.int64, device=self.device),
        )

    def _padded(self, samples_SN: np.ndarray, first: int, end: int) -> Tensor:
        """Samples of a span of the padded waveforms, in [-1, 1]; silence outside the waveforms."""
        offset = self.config.prefix_frames * self.config.mimi.frame_samples
        inside = samples_SN[:, max(first - offset, 0) : max(end - offset, 0)]
        before = min(max(offset - first, 0), end - first)
        after = end - first - before - inside.shape[1]
        inside_SN = torch.from_numpy(inside.astype(np.float32)).to(self.device) / FULL_SCALE
        return F.pad(inside_SN, (before, after))
