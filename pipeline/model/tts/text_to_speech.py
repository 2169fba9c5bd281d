"""A text-to-speech checkpoint at work: scripts in, codes out, a step of all slots at a time.

Every slot has its own step count, so a slot can begin a new text at any step. At step t a slot
reads the codes and the text token of step t - 1. Codes are stored with their delays: codebook k of
audio frame j comes at step j + audio delay + delay of k.

S slots, R rows (one per slot, two with guidance), K codebooks, D width, V ids, P frames of the
longest audio prompt.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from nightscribe.model.cuda_graphs import Upload
from nightscribe.model.kv_cache import KVLengths
from nightscribe.model.native_tensors import NativeTensor, fill, give_memory, without_memory
from nightscribe.model.tts.backbone import Backbone
from nightscribe.model.tts.conditioning import ConditionError, Conditions
from nightscribe.model.tts.config import MAX_SPEAKERS, NEW_WORD_ID, ZERO_ID, TextToSpeechConfig
from nightscribe.model.tts.depth_transformer import DepthTransformer
from nightscribe.model.tts.sampling import (
    TEXT_STREAM,
    Noise,
    SeededNoise,
    SpeechSampling,
    choose,
)
from nightscribe.model.tts.script import FlatScript
from nightscribe.model.tts.speech_state import SpeechState
from nightscribe.model.tts.text_machine import Fed, MachineRules, TextMachine
from nightscribe.model.tts.voice_sources import SourceKV, SourceName, Sources, VoiceSources

# A projection that checkpoints with a second text stream store and no part of the model uses.
_UNUSED = re.compile(r"depformer_text_emb\.low_rank\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechOptions:
    """How texts are spoken; the same for all slots."""

    num_codebooks: int | None = None  # to sample; None: all
    sampling: SpeechSampling = field(default_factory=SpeechSampling)
    guidance: float | None = None  # a second, unconditioned pass; None: none
    padding_bonus: float = 0.0  # added to the logit of padding: above 0 speech is slower


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """One text with everything it is conditioned on."""

    script: FlatScript
    voices: Sequence[Tensor] = ()  # of a model with speakers: vectors WT
    audio_prompt_PK: Tensor | None = None  # of a model without: codes whose voice is continued
    values: Mapping[str, str | None] = field(default_factory=dict)  # of the looked-up conditions
    seed: int = 0


class StepOutput(NamedTuple):
    """What every slot fed and produced at one step."""

    tokens_S: Tensor
    codes_SK: Tensor  # with delays; ZERO_ID where there is no audio yet
    consumed_S: Tensor  # whether an entry of the script began
    ends_S: Tensor  # step at which the script ended, or NO_END; the next step overwrites it


class TextToSpeech:
    """Backbone, depth transformer, conditions, and the conventions between them."""

    def __init__(
        self,
        config: TextToSpeechConfig,
        backbone: Backbone,
        depth: DepthTransformer,
        conditions: Conditions,
        options: SpeechOptions,
    ) -> None:
        if options.guidance is not None and config.has_guidance_condition:
            raise ConditionError(
                "this model takes its guidance as a condition, not as a second pass"
            )
        self.config, self.options = config, options
        self.backbone, self.depth, self.conditions = backbone, depth, conditions
        self.num_codebooks = options.num_codebooks or config.num_codebooks
        self.delays_K = torch.tensor(config.codebook_delays, device=self.device)

    @classmethod
    def load(
        cls,
        config: TextToSpeechConfig,
        tensors: Iterable[tuple[str, Tensor]],
        device: torch.device | str,
        dtype: torch.dtype,
        options: SpeechOptions | None = None,
    ) -> Self:
        """Build from native tensors; conditions stay in fp32."""
        with without_memory():
            parts = Backbone(config).to(dtype), DepthTransformer(config).to(dtype)
            conditions = Conditions(config)
        places: dict[str, NativeTensor] = {}
        for part in (*parts, conditions):
            give_memory(part, device)
            part.eval().requires_grad_(False)
            places |= dict(part.native_tensors())
        fill(places, tensors, lambda name: _UNUSED.fullmatch(name) is not None)
        return cls(config, *parts, conditions, options or SpeechOptions())

    @property
    def device(self) -> torch.device:
        return self.backbone.norm.scale_D.device

    @property
    def dtype(self) -> torch.dtype:
        return self.backbone.norm.scale_D.dtype

    def initial_state(self, num_slots: int, upload: Upload = torch.from_numpy) -> SpeechState:
        config, device = self.config, self.device
        num_rows = num_slots * (1 if self.options.guidance is None else 2)
        factor = (config.text_card + 1) * bool(config.words_ahead)
        rules = MachineRules(padding_id=config.padding_id, second_stream_factor=factor)
        zeros_S = torch.zeros(num_slots, dtype=torch.int64, device=device)
        return SpeechState(
            cache=self.backbone.transformer.empty_cache(num_rows, 1),
            machine=TextMachine(num_slots, rules, device, upload),
            sources=VoiceSources(num_rows, device, upload),
            tokens_S=zeros_S.clone(),
            codes_SK=torch.full((num_slots, config.num_codebooks), ZERO_ID, device=device),
            steps_S=zeros_S.clone(),
            moves_S=zeros_S.bool(),
            seeds_S=zeros_S.clone(),
            condition_RD=torch.zeros(num_rows, config.dim, device=device),
            prompts_SPK=zeros_S.new_zeros(num_slots, 0, config.num_codebooks),
            prompt_frames_S=zeros_S.clone(),
            upload=upload,
        )

    @torch.no_grad()
    def begin(self, state: SpeechState, slot: int, text: Text) -> None:
        """Begin a text in a slot, whatever was there before."""
        self.end(state, slot)
        state.machine.begin(slot, text.script)
        state.seeds_S[slot].fill_(text.seed)
        state.host_steps[slot] = 0
        self._set_prompt(state, slot, text.audio_prompt_PK)
        values_by_row = [text.values, {}]  # with guidance the second row has no conditions
        voices_by_row = [text.voices, ()]
        rows = state.rows_of(slot)
        for row, values, voices in zip(rows, values_by_row, voices_by_row, strict=False):
            state.condition_RD[row] = self.conditions.added(values)
            self._attend_to(state, row, voices, text.voices)

    def end(self, state: SpeechState, slot: int) -> None:
        """Free a slot."""
        state.free(slot)

    @torch.no_grad()
    def step(
        self, state: SpeechState, noise: Noise | None = None, held: Sequence[int] = ()
    ) -> StepOutput:
        """One step of every slot with a text; held slots stay as they are."""
        state.set_moving(state.host_steps.keys() - set(held))
        shape = state.sources.shape(is_rounded=False)
        state.sources.prepare(shape)
        output = self.advance(
            state,
            state.sources.tables(shape),
            is_audible=state.is_audible(self.config.audio_delay_steps),
            kv_lengths=state.kv_lengths(),
            noise=noise,
        )
        state.count_step()
        return output

    def advance(
        self,
        state: SpeechState,
        sources: Sources | None,
        *,
        is_audible: bool,
        kv_lengths: KVLengths = None,
        noise: Noise | None = None,
    ) -> StepOutput:
        """A step on the device alone, which a CUDA graph can record.

        `is_audible`: whether any slot that moves is past its audio delay; the others' codes are
        not sampled.
        """
        noise = noise or SeededNoise(state.seeds_S)
        state.cache.next_positions_B.copy_(state.steps_S.repeat(state.rows_per_slot))
        codes_RK, text_R = self._inputs(state)
        x_RD = self.backbone.embed(codes_RK, text_R, state.condition_RD)
        y_RD = self.backbone.extend(x_RD, state.cache, sources, kv_lengths)
        tokens_S, consumed_S, ends_S = self._feed(state, y_RD, noise)
        codes_SK = self._codes(state, y_RD, tokens_S, noise, is_audible)
        moves_S = state.moves_S
        state.tokens_S.copy_(torch.where(moves_S, tokens_S, state.tokens_S))
        state.codes_SK.copy_(torch.where(moves_S[:, None], codes_SK, state.codes_SK))
        state.steps_S += moves_S
        return StepOutput(tokens_S, codes_SK, consumed_S, ends_S)

    def _inputs(self, state: SpeechState) -> tuple[Tensor, Tensor]:
        config, steps_S1 = self.config, state.steps_S[:, None]
        is_start_SK = steps_S1 <= self.delays_K
        codes_SK = state.codes_SK.masked_fill(is_start_SK, config.audio_card)
        text_S = state.tokens_S.masked_fill(state.steps_S == 0, config.text_card)
        if self.options.guidance is None:
            return codes_SK, text_S
        until_S1 = (state.prompt_frames_S + config.audio_delay_steps)[:, None]
        has_prompt_S1 = (state.prompt_frames_S > 0)[:, None]
        is_hidden_SK = has_prompt_S1 & ~is_start_SK & (steps_S1 <= self.delays_K + until_S1)
        null_codes_SK = codes_SK.masked_fill(is_hidden_SK, ZERO_ID)
        null_text_S = text_S.masked_fill(state.steps_S > 0, ZERO_ID)
        return torch.cat((codes_SK, null_codes_SK)), torch.cat((text_S, null_text_S))

    def _feed(self, state: SpeechState, y_RD: Tensor, noise: Noise) -> Fed:
        """Decide whether words begin, and which tokens are fed."""
        logits_SV = self.backbone.text_head(y_RD[: state.num_slots])
        if self.options.padding_bonus:
            logits_SV[:, self.config.padding_id] += self.options.padding_bonus
        sampling = self.options.sampling
        chosen_S = choose(
            logits_SV.float(),
            sampling.temperature,
            sampling.text_top_k,
            noise,
            TEXT_STREAM,
            state.steps_S,
        )
        in_prompt_S = state.steps_S < state.prompt_frames_S
        is_new_word_S = chosen_S == NEW_WORD_ID
        moves_S = state.moves_S & ~in_prompt_S
        fed = state.machine.step(is_new_word_S, state.steps_S, moves_S)
        return fed._replace(tokens_S=fed.tokens_S.masked_fill(in_prompt_S, ZERO_ID))

    def _codes(
        self, state: SpeechState, y_RD: Tensor, tokens_S: Tensor, noise: Noise, is_audible: bool
    ) -> Tensor:
        codes_SK = torch.full_like(state.codes_SK, ZERO_ID)
        if is_audible:
            choose_codes = partial(self._choose_codes, state, noise)
            tokens_R = tokens_S.repeat(state.rows_per_slot)
            sampled_SK = self.depth(y_RD, tokens_R, self.num_codebooks, choose_codes)
            codes_SK[:, : self.num_codebooks] = sampled_SK
        first_step = self.config.audio_delay_steps
        frames_SK = state.steps_S[:, None] - self.delays_K - first_step
        codes_SK = codes_SK.masked_fill(frames_SK < 0, ZERO_ID)
        return self._with_prompt(state, codes_SK, frames_SK)

    def _choose_codes(
        self, state: SpeechState, noise: Noise, codebook: int, logits_RV: Tensor
    ) -> Tensor:
        sampling, scale = self.options.sampling, self.options.guidance
        if scale is not None:
            full_SV, null_SV = logits_RV.chunk(2)
            logits_RV = null_SV + (full_SV - null_SV) * scale
        return choose(
            logits_RV, sampling.temperature, sampling.audio_top_k, noise, codebook, state.steps_S
        )

    def _with_prompt(self, state: SpeechState, codes_SK: Tensor, frames_SK: Tensor) -> Tensor:
        """The codes, or those of the audio prompt where it is still being fed."""
        if not state.prompts_SPK.shape[1]:
            return codes_SK
        is_prompt_SK = (frames_SK >= 0) & (frames_SK < state.prompt_frames_S[:, None])
        last = state.prompts_SPK.shape[1] - 1
        prompt_SK = state.prompts_SPK.gather(1, frames_SK.clamp(0, last)[:, None])[:, 0]
        return torch.where(is_prompt_SK, prompt_SK, codes_SK)

    def _set_prompt(self, state: SpeechState, slot: int, prompt_PK: Tensor | None) -> None:
        num_frames = 0 if prompt_PK is None else len(prompt_PK)
        state.prompt_frames_S[slot].fill_(num_frames)
        if prompt_PK is None:
            return
        missing = num_frames - state.prompts_SPK.shape[1]
        if missing > 0:
            state.prompts_SPK = torch.nn.functional.pad(state.prompts_SPK, (0, 0, 0, missing))
        state.prompts_SPK[slot, :num_frames] = prompt_PK

    def _attend_to(
        self, state: SpeechState, row: int, voices: Sequence[Tensor], like: Sequence[Tensor]
    ) -> None:
        """Make a row attend to these voices; rows with the same voices share keys and values."""
        speakers = self.conditions.speakers
        if speakers is None:
            return
        if not like:
            raise ConditionError("this model speaks with a voice: none was given")
        if len(voices) > MAX_SPEAKERS:
            raise ConditionError(f"at most {MAX_SPEAKERS} voices, not {len(voices)}")
        name = SourceName(voices, like[0].shape[1])

        def make() -> SourceKV:
            source_CD = speakers(voices, name.num_vectors)
            return self.backbone.source(source_CD.to(self.dtype))

        state.sources.attend(row, name, make)
