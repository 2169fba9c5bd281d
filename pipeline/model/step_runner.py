"""Runs rounds of single steps: every slot takes one frame and outputs one token at each step.

Satisfies the engine's `StepModel`. The engine lays a round out on the host; `StepTables` holds it
in tensors whose addresses never change, so that a captured step finds them.

S slots, T steps of a round, K codebooks, V text tokens, H VAD heads, P tokens of all prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from nightscribe.engine.interface import HOLD, NO_TOKEN, RoundInput, RoundOutput
from nightscribe.model.cuda_graphs import GraphKey, PendingCopy, Upload
from nightscribe.model.kv_cache import KVLengths
from nightscribe.model.model_runner import DEFAULT_OPTIONS, Codes, ModelRunner, RunnerOptions
from nightscribe.model.sampling import (
    MAX_PROMPT_TOKENS,
    constrain,
    probabilities_of,
    sample_each,
)
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.term_bias import StreamTermBias, TermBias, preferred
from nightscribe.model.triton_support import kernels, uses_kernels


class StepInput(NamedTuple):
    """The input of every slot at the current step."""

    positions_S: Tensor
    codes_SK: Tensor
    forced_S: Tensor


class SamplingInput(NamedTuple):
    """How every slot chooses its token at the current step."""

    temperatures_S: Tensor
    seeds_S: Tensor
    prompts_S: Tensor  # where in `prompt_tokens_P` the slot's prompt begins


@dataclass(slots=True)
class StepTables:
    """The input and output of a round on the device."""

    # Kept from round to round.
    last_tokens_S: Tensor
    num_prompted_S: Tensor  # tokens of each slot's prompt that are already output
    term_nodes_S: Tensor  # where in a term of the run each slot is
    stream_term_nodes_S: Tensor  # and in a term of its stream
    # Input, loaded for each round.
    step_1: Tensor  # the current step
    positions_forced_T2S: Tensor
    temperatures_TS: Tensor
    seeds_TS: Tensor
    prompts_TS: Tensor
    prompt_tokens_P: Tensor
    terms_TS: Tensor  # which trie is that of the stream
    codes_TSK: Tensor
    # Output.
    tokens_TS: Tensor
    confidences_TS: Tensor
    vad_TSH: Tensor

    @classmethod
    def empty(
        cls, shape_TS: tuple[int, int], num_codebooks: int, num_vad_heads: int, device: torch.device
    ) -> Self:
        def table(*extra: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(*shape_TS, *extra, dtype=dtype, device=device)

        num_steps, num_slots = shape_TS
        # Of a slot's streams in one round only the first can be far into a long prompt.
        max_prompt_tokens = 1 + num_slots * (MAX_PROMPT_TOKENS + 1 + 2 * num_steps)
        return cls(
            last_tokens_S=torch.zeros(num_slots, dtype=torch.int64, device=device),
            num_prompted_S=torch.zeros(num_slots, dtype=torch.int64, device=device),
            term_nodes_S=torch.zeros(num_slots, dtype=torch.int64, device=device),
            stream_term_nodes_S=torch.zeros(num_slots, dtype=torch.int64, device=device),
            step_1=torch.zeros(1, dtype=torch.int64, device=device),
            positions_forced_T2S=torch.zeros(
                num_steps, 2, num_slots, dtype=torch.int64, device=device
            ),
            temperatures_TS=table(dtype=torch.float32),
            seeds_TS=table(),
            prompts_TS=table(),
            prompt_tokens_P=torch.full((max_prompt_tokens,), NO_TOKEN, device=device),
            terms_TS=table(),
            codes_TSK=table(num_codebooks),
            tokens_TS=table(dtype=torch.int32),
            confidences_TS=table(dtype=torch.float32),
            vad_TSH=table(num_vad_heads, dtype=torch.float32),
        )

    @property
    def slot_state(self) -> tuple[Tensor, ...]:
        terms = self.term_nodes_S, self.stream_term_nodes_S
        return self.last_tokens_S, self.num_prompted_S, *terms

    def rewind(self) -> None:
        self.step_1.zero_()

    def load(
        self, inputs: RoundInput, codes: Sequence[Codes], no_code: int, upload: Upload
    ) -> None:
        """Load a round; its code rows count through the given chunks in order.

        At the first step of a stream all its codes are `no_code`.
        """
        span = slice(inputs.num_steps), slice(inputs.num_slots)
        self.rewind()
        positions_TS = upload(inputs.positions_TS).long()
        self.positions_forced_T2S[:, 0][span] = positions_TS
        self.positions_forced_T2S[:, 1][span] = upload(inputs.forced_TS).long()
        if not inputs.is_greedy:
            self._load_sampling(inputs, span, upload)
        codes_FK = torch.cat([chunk.codes_JFK.flatten(0, 1) for chunk in codes])
        if len(codes_FK):
            rows_TS = upload(inputs.code_rows_TS)
            codes_TSK = codes_FK.index_select(0, rows_TS.flatten())
            self.codes_TSK[span] = codes_TSK.unflatten(0, rows_TS.shape)
        self.codes_TSK[span].masked_fill_((positions_TS == 0)[..., None], no_code)

    def _load_sampling(self, inputs: RoundInput, span: tuple[slice, slice], upload: Upload) -> None:
        self.temperatures_TS[span] = upload(inputs.temperatures_TS)
        self.seeds_TS[span] = upload(inputs.seeds_TS)
        self.prompts_TS[span] = upload(inputs.prompts_TS)
        self.prompt_tokens_P[: len(inputs.prompt_tokens_P)] = upload(inputs.prompt_tokens_P)

    def load_terms(self, inputs: RoundInput, upload: Upload) -> None:
        span = slice(inputs.num_steps), slice(inputs.num_slots)
        self.terms_TS[span] = 0 if inputs.terms_TS is None else upload(inputs.terms_TS)

    def tries(self, num_slots: int) -> Tensor:
        """Of the streams in the slots at the current step."""
        return self._at_step(self.terms_TS, num_slots)

    def step_input(self, num_slots: int) -> StepInput:
        positions_S, forced_S = self.positions_forced_T2S.index_select(0, self.step_1)[0]
        codes_SK = self._at_step(self.codes_TSK, num_slots)
        return StepInput(positions_S[:num_slots], codes_SK, forced_S[:num_slots])

    def sampling_input(self, num_slots: int) -> SamplingInput:
        tables = self.temperatures_TS, self.seeds_TS, self.prompts_TS
        return SamplingInput(*(self._at_step(table, num_slots) for table in tables))

    def _at_step(self, table_TS: Tensor, num_slots: int) -> Tensor:
        return table_TS.index_select(0, self.step_1)[0, :num_slots]

    def write_likeliest(self, logits_SV: Tensor, forced_S: Tensor) -> None:
        """Write the forced or the likeliest tokens of the current step, and their probabilities."""
        if uses_kernels(logits_SV):
            outputs = self.last_tokens_S, self.tokens_TS, self.confidences_TS
            kernels().write_likeliest(logits_SV, forced_S, self.step_1, *outputs)
        else:
            self.write(self.unless_forced(logits_SV.argmax(dim=-1), forced_S), logits_SV)

    def unless_forced(self, chosen_S: Tensor, forced_S: Tensor) -> Tensor:
        """The forced token; on `HOLD` the last one; else the chosen one."""
        tokens_S = torch.where(forced_S == HOLD, self.last_tokens_S[: len(forced_S)], chosen_S)
        return torch.where(forced_S < 0, tokens_S, forced_S)

    def write(self, tokens_S: Tensor, logits_SV: Tensor) -> None:
        """Write the tokens of the current step, and their probabilities."""
        self.last_tokens_S[: len(tokens_S)].copy_(tokens_S)
        self._put(self.tokens_TS, tokens_S.int())
        self._put(self.confidences_TS, probabilities_of(tokens_S, logits_SV))

    def end_step(self, vad_STHA: Tensor | None) -> None:
        """Write what the VAD heads say at the current step, and go on to the next."""
        if vad_STHA is not None:
            self._put(self.vad_TSH, vad_STHA[:, 0, :, 0])
        self.step_1 += 1

    def _put(self, table_TS: Tensor, output_S: Tensor) -> None:
        table_TS[:, : len(output_S)].index_copy_(0, self.step_1, output_S[None])

    def output(self, num_steps: int, num_slots: int) -> list[Tensor]:
        """Copies of the round's output."""
        tables = self.tokens_TS, self.confidences_TS, self.vad_TSH
        return [table[:num_steps, :num_slots].clone() for table in tables]


class StepRunner(ModelRunner[StepTables]):
    """Makes `round_steps` steps of every slot in a round."""

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        round_steps: int,
        options: RunnerOptions = DEFAULT_OPTIONS,
    ) -> None:
        super().__init__(speech, num_slots, round_steps, 1, options)
        num_codebooks = self._language_model.config.num_codebooks
        self._tables = StepTables.empty(
            (round_steps, num_slots), num_codebooks, self.num_vad_heads, self.device
        )
        self._terms = (
            TermBias(options.terms, self._padding_tokens, self._tables.term_nodes_S)
            if options.terms
            else None
        )
        self._stream_terms = (
            StreamTermBias(
                options.stream_terms,
                self._padding_tokens,
                self._tables.stream_term_nodes_S,
                num_tries=num_slots * round_steps,
            )
            if options.stream_terms is not None
            else None
        )
        self._capture_graphs()

    @torch.inference_mode()
    def run(self, inputs: RoundInput, codes: Sequence[Codes]) -> PendingCopy[RoundOutput]:
        """Queue every step of a round."""
        with self._runtime.on_device():
            for chunk_codes in codes:
                self._runtime.wait_event(chunk_codes.codes_JFK, chunk_codes.done)
            no_code = self._language_model.config.audio_card
            self._tables.load(inputs, codes, no_code, self._runtime.upload)
            if self._stream_terms is not None:
                self._tables.load_terms(inputs, self._runtime.upload)
                self._stream_terms.load(inputs.term_edges, self._runtime.upload)
            key = GraphKey(inputs.num_slots, inputs.is_greedy)
            for lengths_S in self._kv_lengths(inputs):
                self._replay_or_step(key, lengths_S)
            copies = self._tables.output(inputs.num_steps, inputs.num_slots)
            return self._runtime.download(copies, RoundOutput)

    def _kv_lengths(self, inputs: RoundInput) -> Sequence[KVLengths]:
        """The ring entries of each slot at every step, which a GPU does not use."""
        if self._runtime.is_cuda:
            return [None] * inputs.num_steps
        lengths_TS = np.minimum(inputs.positions_TS + 1, self._cache.capacity)
        lengths_TS[inputs.forced_TS == HOLD] = 1  # their output is dropped
        return [tuple(lengths_S) for lengths_S in lengths_TS.tolist()]

    def _step(self, key: GraphKey, kv_lengths: KVLengths) -> None:
        """One step of every slot; the tables count which."""
        inputs, config = self._tables.step_input(key.num_slots), self._language_model.config
        is_fresh_S = inputs.positions_S == 0
        last_tokens_S = self._tables.last_tokens_S[: key.num_slots]
        text_S = last_tokens_S.masked_fill(is_fresh_S, config.text_start_id)
        cache = self._cache.first(key.num_slots)
        cache.next_positions_B.copy_(inputs.positions_S)
        prediction = self._language_model.extend(
            inputs.codes_SK[:, None], text_S[:, None], cache, kv_lengths=kv_lengths
        )
        logits_SV = prediction.logits_STV[:, 0]
        self._tables.num_prompted_S[: key.num_slots].masked_fill_(is_fresh_S, 0)
        if self._terms is not None or self._stream_terms is not None:
            self._write_preferred(logits_SV, inputs, key)
        elif key.is_greedy:
            self._tables.write_likeliest(logits_SV, inputs.forced_S)
        else:
            self._tables.write(self._sampled(logits_SV, inputs, key), logits_SV)
        self._tables.end_step(prediction.vad_STHA)

    def _write_preferred(self, logits_SV: Tensor, inputs: StepInput, key: GraphKey) -> None:
        """Write tokens that are chosen with a bias to terms; probabilities are the model's own."""
        is_fresh_S, tries_S = inputs.positions_S == 0, self._tables.tries(key.num_slots)
        bonus_SV = torch.zeros_like(logits_SV)
        if self._terms is not None:
            bonus_SV = self._terms.bonus_SV(logits_SV, is_fresh_S)
        if self._stream_terms is not None:
            own_SV = self._stream_terms.bonus_SV(logits_SV, is_fresh_S, tries_S)
            bonus_SV = torch.maximum(bonus_SV, own_SV)
        biased_SV = preferred(logits_SV, bonus_SV, self._padding_tokens)
        if key.is_greedy:
            tokens_S = self._tables.unless_forced(biased_SV.argmax(dim=-1), inputs.forced_S)
        else:
            tokens_S = self._sampled(biased_SV, inputs, key)
        self._tables.write(tokens_S, logits_SV)
        is_held_S = inputs.forced_S == HOLD
        if self._terms is not None:
            self._terms.advance(tokens_S, is_held_S)
        if self._stream_terms is not None:
            self._stream_terms.advance(tokens_S, is_held_S, tries_S)

    def _sampled(self, logits_SV: Tensor, inputs: StepInput, key: GraphKey) -> Tensor:
        """The token of every slot: forced, constrained to its prompt, or sampled."""
        num_prompted_S = self._tables.num_prompted_S[: key.num_slots]
        sampling = self._tables.sampling_input(key.num_slots)
        due_S = self._tables.prompt_tokens_P.index_select(0, sampling.prompts_S + num_prompted_S)
        constrained_SV = constrain(logits_SV, due_S, self._padding_tokens)
        sampled_S = sample_each(
            constrained_SV, sampling.temperatures_S, sampling.seeds_S, inputs.positions_S
        )
        tokens_S = self._tables.unless_forced(sampled_S, inputs.forced_S)
        num_prompted_S += (tokens_S == due_S) & (inputs.forced_S != HOLD)
        return tokens_S
