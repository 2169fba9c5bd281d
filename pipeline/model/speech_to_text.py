"""A whole checkpoint at work: waveforms in, tokens out, by the conventions of the reference.

The first step hears no sound, only the start ids; step p hears frame p - 1 and what was said at
step p - 1. So F frames take F + 1 steps, and `tokens[i]` is what was said on hearing frame i.

This is the plain way, every row in lockstep: what faster ways are held against.

S slots (one per waveform), N samples, F frames, K codebooks, H extra heads, A answers of a head.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nightscribe.model.attention import RingCache
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi
from nightscribe.model.sampling import Sampling, Script, Scripts, draw, probabilities_of

GREEDY = Sampling()
FULL_SCALE = 32768.0  # of int16 samples
FRAMES_PER_PIECE = 25  # encoded at once
Tensors = Iterable[tuple[str, Tensor]]


class Said(NamedTuple):
    """What every slot says at one step."""

    tokens_S: Tensor
    probabilities_S: Tensor
    extra_SHA: Tensor | None


class Heard(NamedTuple):
    """What was said on hearing each frame of each waveform."""

    tokens_SF: Tensor
    probabilities_SF: Tensor  # of these tokens, in the model's own eyes
    extra_SFHA: Tensor | None  # probabilities of the extra heads' answers
    start_tokens_S: Tensor  # what was said at the start step, which hears nothing

    def write(self, frame: int, said: Said) -> None:
        self.tokens_SF[:, frame] = said.tokens_S
        self.probabilities_SF[:, frame] = said.probabilities_S
        if self.extra_SFHA is not None and said.extra_SHA is not None:
            self.extra_SFHA[:, frame] = said.extra_SHA


@dataclass(slots=True)
class StepState:
    """What every slot remembers between two steps; updated in place."""

    cache: RingCache
    last_tokens_S: Tensor
    scripts: Scripts | None = None


class SpeechToText:
    """Mimi, the language model and the conventions that bind them."""

    def __init__(
        self, config: SpeechToTextConfig, mimi: Mimi, language_model: LanguageModel
    ) -> None:
        if mimi.config.num_codebooks != language_model.config.num_codebooks:
            raise ValueError(
                f"the codec makes {mimi.config.num_codebooks} codes a frame, "
                f"the language model hears {language_model.config.num_codebooks}"
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
        weight_bits: int | None = None,
    ) -> Self:
        """Build from native tensors; the codec makes only the codes the language model hears.

        `weight_bits` as in `LanguageModel.load`.
        """
        heard = replace(config.mimi, num_codebooks=config.language_model.num_codebooks)
        mimi = Mimi.load(heard, mimi_tensors, device)
        language_model = LanguageModel.load(
            config.language_model, language_model_tensors, device, dtype, weight_bits=weight_bits
        )
        return cls(config, mimi, language_model)

    @property
    def device(self) -> torch.device:
        return self.language_model.norm.scale_D.device

    @property
    def silent_tokens(self) -> tuple[int, int]:
        """What may be said between the tokens of a prompt."""
        config = self.config.language_model
        return config.end_of_padding_id, config.padding_id

    def hear(
        self,
        samples_SN: np.ndarray,
        scripts: Sequence[Script] | None = None,
        sampling: Sampling = GREEDY,
    ) -> Heard:
        """Transcribe waveforms of one length, prefix and flush added."""
        num_slots, num_frames = len(samples_SN), self.config.num_frames(samples_SN.shape[1])
        state = self.initial_state(num_slots, scripts)
        heard = self._unheard(num_slots, num_frames)
        fresh_S = torch.ones(num_slots, dtype=torch.bool, device=self.device)
        nothing_SK = fresh_S.new_zeros(num_slots, self.mimi.config.num_codebooks, dtype=torch.int64)
        start = self.step(nothing_SK, state, fresh_S, sampling, reach=1)
        heard.start_tokens_S.copy_(start.tokens_S)
        later_S = torch.zeros_like(fresh_S)
        every_codes_SK = (codes for piece in self.encode(samples_SN) for codes in piece.unbind(1))
        for frame, codes_SK in enumerate(every_codes_SK):
            said = self.step(codes_SK, state, later_S, sampling, reach=frame + 2)
            heard.write(frame, said)
        return heard

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

    def initial_state(self, num_slots: int, scripts: Sequence[Script] | None = None) -> StepState:
        return StepState(
            cache=self.language_model.empty_cache(num_slots),
            last_tokens_S=torch.zeros(num_slots, dtype=torch.int64, device=self.device),
            scripts=Scripts.of(scripts, self.silent_tokens, self.device) if scripts else None,
        )

    def step(
        self,
        codes_SK: Tensor,
        state: StepState,
        fresh_S: Tensor,
        sampling: Sampling = GREEDY,
        reach: int | None = None,
    ) -> Said:
        """Every slot hears one frame and says one token; fresh slots hear the start ids instead.

        `reach` as in `Transformer.extend`.
        """
        config = self.language_model.config
        codes_SK = codes_SK.masked_fill(fresh_S[:, None], config.audio_card)
        text_S = state.last_tokens_S.masked_fill(fresh_S, config.text_start_id)
        prediction = self.language_model.extend(
            codes_SK[:, None], text_S[:, None], state.cache, fresh_S, reach
        )
        logits_SV = prediction.logits_STV[:, 0]
        state.last_tokens_S = self._choose(logits_SV, state, sampling)
        extra_SHA = None if prediction.extra_STHA is None else prediction.extra_STHA[:, 0]
        return Said(
            state.last_tokens_S, probabilities_of(state.last_tokens_S, logits_SV), extra_SHA
        )

    def _choose(self, logits_SV: Tensor, state: StepState, sampling: Sampling) -> Tensor:
        positions_S = state.cache.next_positions_B - 1
        if state.scripts is None:
            return draw(logits_SV, sampling, positions_S)
        tokens_S = draw(state.scripts.hold(logits_SV), sampling, positions_S)
        return state.scripts.force(tokens_S, positions_S)

    def _unheard(self, num_slots: int, num_frames: int) -> Heard:
        config = self.language_model.config
        shape, answers = (num_slots, num_frames), (config.num_extra_heads, config.extra_head_dim)
        return Heard(
            torch.empty(shape, dtype=torch.int64, device=self.device),
            torch.empty(shape, device=self.device),
            torch.empty(*shape, *answers, device=self.device) if config.num_extra_heads else None,
            torch.empty(num_slots, dtype=torch.int64, device=self.device),
        )

    def _padded(self, samples_SN: np.ndarray, first: int, end: int) -> Tensor:
        """Samples of a span of the padded waveforms, in [-1, 1]; silence outside the waveforms."""
        offset = self.config.prefix_frames * self.config.mimi.frame_samples
        inside = samples_SN[:, max(first - offset, 0) : max(end - offset, 0)]
        before = min(max(offset - first, 0), end - first)
        after = end - first - before - inside.shape[1]
        heard_SN = torch.from_numpy(inside.astype(np.float32)).to(self.device) / FULL_SCALE
        return F.pad(heard_SN, (before, after))
