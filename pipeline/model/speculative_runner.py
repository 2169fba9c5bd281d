"""Runs speculative rounds: every slot runs several frames in one pass, on draft tokens.

The audio of later steps is known in advance, but the token of the step before is not. So a pass
runs the next frames with draft tokens in their place, and accepts a step if all draft tokens before
it turn out right. The output after the first wrong one is discarded, but serves as the draft of the
next pass; beyond it the draft is padding, which most tokens are. Accepted steps are exactly those
that single steps would have made, and at least one step of a pass is accepted.

S slots, T frames of a pass, C columns of a slot, W steps that it may make in a round, K codebooks,
V text tokens, H VAD heads, P tokens of all prompts.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from nightscribe.engine.interface import NO_TOKEN, SpeculativeInput, SpeculativeOutput
from nightscribe.model.cuda_graphs import GraphKey, PendingCopy, Upload
from nightscribe.model.kv_cache import KVLengths
from nightscribe.model.language_model import Prediction
from nightscribe.model.model_runner import DEFAULT_OPTIONS, Codes, ModelRunner, RunnerOptions
from nightscribe.model.sampling import (
    MAX_PROMPT_TOKENS,
    constrain,
    probabilities_of,
    sample_each,
)
from nightscribe.model.speech_to_text import SpeechToText


class TableSizes(NamedTuple):
    """Sizes of the tables of a runner."""

    num_slots: int
    frames_per_pass: int
    num_columns: int
    round_steps: int  # that a slot makes in a round at most
    num_codebooks: int
    num_vad_heads: int


@dataclass(slots=True)
class SpeculativeTables:
    """The input and output of a speculative round on the device; a row for each slot."""

    # Kept from round to round.
    positions_S: Tensor  # the next step of each slot
    num_prompted_S: Tensor  # tokens of its prompt that are already output
    text_ST: Tensor  # the last accepted token, then draft tokens
    codes_SCK: Tensor
    # Input, loaded for each round.
    num_steps_S: Tensor  # that a slot has made in this round
    ends_S: Tensor
    bases_S: Tensor
    forced_SC: Tensor
    temperatures_S: Tensor
    seeds_S: Tensor
    prompts_S: Tensor  # where among the tokens of all prompts the slot's own begins
    # Output.
    tokens_SW: Tensor
    confidences_SW: Tensor
    vad_SWH: Tensor

    @classmethod
    def empty(cls, sizes: TableSizes, device: torch.device) -> Self:
        def table(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(sizes.num_slots, *shape, dtype=dtype, device=device)

        return cls(
            positions_S=table(),
            num_prompted_S=table(),
            text_ST=table(sizes.frames_per_pass),
            codes_SCK=table(sizes.num_columns, sizes.num_codebooks),
            num_steps_S=table(),
            ends_S=table(),
            bases_S=table(),
            forced_SC=table(sizes.num_columns),
            temperatures_S=table(dtype=torch.float32),
            seeds_S=table(),
            prompts_S=table(),
            tokens_SW=table(sizes.round_steps, dtype=torch.int32),
            confidences_SW=table(sizes.round_steps, dtype=torch.float32),
            vad_SWH=table(sizes.round_steps, sizes.num_vad_heads, dtype=torch.float32),
        )

    @property
    def slot_state(self) -> tuple[Tensor, ...]:
        return self.positions_S, self.num_prompted_S, self.text_ST, self.codes_SCK

    def rewind(self) -> None:
        self.num_steps_S.zero_()

    def first(self, num_slots: int) -> Self:
        """The same memory, for the first slots only."""
        return type(self)(*(getattr(self, field.name)[:num_slots] for field in fields(self)))

    def load(self, inputs: SpeculativeInput, upload: Upload) -> None:
        """Load a round, all but its codes."""
        self.rewind()
        starts_S = upload(inputs.starts_S)
        self.positions_S.copy_(torch.where(starts_S < 0, self.positions_S, starts_S))
        self.ends_S.copy_(upload(inputs.ends_S))
        self.bases_S.copy_(upload(inputs.bases_S))
        self.forced_SC.copy_(upload(inputs.forced_SC))
        self.temperatures_S.copy_(upload(inputs.temperatures_S))
        self.seeds_S.copy_(upload(inputs.seeds_S))
        self.prompts_S.copy_(upload(inputs.prompts_S))

    def output(self) -> list[Tensor]:
        """Copies of the round's output."""
        tables = self.num_steps_S, self.tokens_SW, self.confidences_SW, self.vad_SWH
        return [table.clone() for table in tables]


class PassInput(NamedTuple):
    """The input of a pass; `text_ST` holds draft tokens after the first."""

    columns_ST: Tensor
    positions_ST: Tensor
    codes_STK: Tensor
    text_ST: Tensor


class SpeculativeRunner(ModelRunner[SpeculativeTables]):
    """Runs `frames_per_pass` frames of every slot at once, `num_passes` times a round."""

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        frames_per_pass: int,
        num_passes: int,
        options: RunnerOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.frames_per_pass, self.num_passes = frames_per_pass, num_passes
        round_steps = frames_per_pass * num_passes
        super().__init__(speech, num_slots, round_steps, frames_per_pass, options)
        sizes = TableSizes(
            num_slots=num_slots,
            frames_per_pass=frames_per_pass,
            num_columns=(self.rounds_ahead + 2) * round_steps,
            round_steps=round_steps,
            num_codebooks=self._language_model.config.num_codebooks,
            num_vad_heads=self.num_vad_heads,
        )
        self._tables = SpeculativeTables.empty(sizes, self.device)
        max_prompt_tokens = num_slots * (MAX_PROMPT_TOKENS + 2)
        self._prompt_tokens_P = torch.full((max_prompt_tokens,), NO_TOKEN, device=self.device)
        self._capture_graphs()

    @property
    def rounds_ahead(self) -> int:
        return self._runtime.rounds_ahead

    @torch.inference_mode()
    def run(self, inputs: SpeculativeInput, codes: Codes) -> PendingCopy[SpeculativeOutput]:
        """Queue every pass of a round."""
        key = GraphKey(inputs.num_slots, inputs.is_greedy)
        with self._runtime.on_device():
            self._runtime.wait_event(codes.codes_JFK, codes.done)
            self._load(inputs, codes)
            for index in range(1, self.num_passes + 1):
                self._replay_or_step(key, self._kv_lengths(inputs, index))
            output = self._tables.first(inputs.num_slots).output()
            return self._runtime.download(output, SpeculativeOutput)

    def _kv_lengths(self, inputs: SpeculativeInput, num_passes: int) -> KVLengths:
        """An upper bound of each slot's ring entries after this many passes; idle slots stay."""
        passes_S = np.where(inputs.ends_S > 0, num_passes, 1)
        lengths_S = inputs.max_positions_S + passes_S * self.frames_per_pass
        return tuple(np.minimum(lengths_S, self._cache.capacity).tolist())

    def _load(self, inputs: SpeculativeInput, codes: Codes) -> None:
        upload, tables = self._runtime.upload, self._tables.first(inputs.num_slots)
        tables.load(inputs, upload)
        self._prompt_tokens_P[: len(inputs.prompt_tokens_P)] = upload(inputs.prompt_tokens_P)
        # A copy before the table is overwritten: some of its codes stay.
        codes_FK = torch.cat((self._tables.codes_SCK.flatten(0, 1), codes.codes_JFK.flatten(0, 1)))
        rows = upload(inputs.code_rows_SC).flatten()
        tables.codes_SCK.copy_(codes_FK.index_select(0, rows).view_as(tables.codes_SCK))

    def _step(self, key: GraphKey, kv_lengths: KVLengths) -> None:
        """One pass of every slot: run its next frames, accept steps, write the next draft."""
        tables, cache = self._tables.first(key.num_slots), self._cache.first(key.num_slots)
        inputs = self._pass_input(tables)
        is_fresh_S = tables.positions_S == 0
        cache.next_positions_B.copy_(tables.positions_S)
        prediction = self._language_model.extend(
            inputs.codes_STK, inputs.text_ST, cache, kv_lengths=kv_lengths
        )
        tables.num_prompted_S.masked_fill_(is_fresh_S, 0)
        due_S = self._prompt_tokens_P.index_select(0, tables.prompts_S + tables.num_prompted_S)
        tokens_ST = self._next_tokens(
            tables, prediction.logits_STV, inputs, None if key.is_greedy else due_S
        )
        _write(tables, tokens_ST, prediction)
        tables.num_prompted_S += tokens_ST[:, 0] == due_S
        num_accepted_S = _num_accepted(tables, inputs, tokens_ST, due_S)
        self._write_draft(tables, tokens_ST, num_accepted_S)
        tables.num_steps_S += num_accepted_S
        tables.positions_S += num_accepted_S

    def _pass_input(self, tables: SpeculativeTables) -> PassInput:
        config = self._language_model.config
        later_T = torch.arange(self.frames_per_pass, device=self.device)
        positions_ST = tables.positions_S[:, None] + later_T
        columns_ST = positions_ST - tables.bases_S[:, None]
        is_start_ST = positions_ST == 0
        codes_STK = tables.codes_SCK[_rows_S1(columns_ST), columns_ST]
        return PassInput(
            columns_ST,
            positions_ST,
            codes_STK.masked_fill(is_start_ST[..., None], config.audio_card),
            tables.text_ST.masked_fill(is_start_ST, config.text_start_id),
        )

    def _next_tokens(
        self,
        tables: SpeculativeTables,
        logits_STV: Tensor,
        inputs: PassInput,
        due_S: Tensor | None,
    ) -> Tensor:
        """The tokens of every slot: forced, constrained, sampled or the likeliest."""
        forced_ST = tables.forced_SC.gather(1, inputs.columns_ST)
        if due_S is None:
            chosen_ST = logits_STV.argmax(dim=-1)
        else:
            first_S1V = constrain(logits_STV[:, 0], due_S, self._padding_tokens)[:, None]
            constrained_STV = torch.cat((first_S1V, logits_STV[:, 1:]), 1)
            chosen_ST = _sample(tables, constrained_STV, inputs.positions_ST)
        return torch.where(forced_ST < 0, chosen_ST, forced_ST)

    def _write_draft(
        self, tables: SpeculativeTables, tokens_ST: Tensor, num_accepted_S: Tensor
    ) -> None:
        """The last accepted token, then the discarded ones after it, then padding.

        What a slot without an accepted step gets here does not matter: it is idle or at its end.
        """
        padding_ST = torch.full_like(tokens_ST, self._language_model.config.padding_id)
        later_T = torch.arange(self.frames_per_pass, device=tokens_ST.device)
        from_ST = (num_accepted_S[:, None] - 1).clamp_min(0) + later_T
        tables.text_ST.copy_(torch.cat((tokens_ST, padding_ST), 1).gather(1, from_ST))


def _rows_S1(x_ST: Tensor) -> Tensor:
    return torch.arange(len(x_ST), device=x_ST.device)[:, None]


def _sample(tables: SpeculativeTables, logits_STV: Tensor, positions_ST: Tensor) -> Tensor:
    def each(x_S: Tensor) -> Tensor:
        return x_S[:, None].expand_as(positions_ST).flatten()

    temperatures, seeds = each(tables.temperatures_S), each(tables.seeds_S)
    tokens = sample_each(logits_STV.flatten(0, 1), temperatures, seeds, positions_ST.flatten())
    return tokens.view_as(positions_ST)


def _write(tables: SpeculativeTables, tokens_ST: Tensor, prediction: Prediction) -> None:
    """Write the output of all frames; the next pass overwrites what is not accepted."""
    later_T = torch.arange(tokens_ST.shape[1], device=tokens_ST.device)
    where = _rows_S1(tokens_ST), tables.num_steps_S[:, None] + later_T
    logits_NV = prediction.logits_STV.flatten(0, 1)
    confidences_ST = probabilities_of(tokens_ST.flatten(), logits_NV).view(tokens_ST.shape)
    tables.tokens_SW.index_put_(where, tokens_ST.int())
    tables.confidences_SW.index_put_(where, confidences_ST)
    if prediction.vad_STHA is not None:
        tables.vad_SWH.index_put_(where, prediction.vad_STHA[..., 0])


def _num_accepted(
    tables: SpeculativeTables, inputs: PassInput, tokens_ST: Tensor, due_S: Tensor
) -> Tensor:
    """Steps of a pass before which all draft tokens are right, within the stream."""
    is_right_ST = inputs.text_ST[:, 1:] == tokens_ST[:, :-1]
    num_accepted_S = 1 + is_right_ST.long().cumprod(dim=1).sum(dim=1)
    # Inside a prompt the constraint is known for the next step alone.
    num_accepted_S = num_accepted_S.masked_fill(due_S != NO_TOKEN, 1)
    return torch.minimum(num_accepted_S, (tables.ends_S - tables.positions_S).clamp_min(0))
