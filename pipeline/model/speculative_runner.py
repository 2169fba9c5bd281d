"""A checkpoint whose slots hear several frames in one pass, and are right as often as they can be.

What is heard at a step is known beforehand, but for the token said at the step before. That is
guessed: a pass hears the next frames with guesses for these tokens, and a step is right if all the
guesses before it were. What was said after the first wrong one is heard again by the next pass,
and is its guess; further ahead padding is, which most tokens are. So the first steps of a pass are
those that single steps would have made, and at least one is.

S slots, T frames of a pass, C columns of a slot, W steps that it may make in a round, K codebooks,
V text tokens, H extra heads, P tokens of all prompts.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.attention import Reach
from nightscribe.model.cuda_runtime import Homeward, Kind
from nightscribe.model.language_model import Prediction
from nightscribe.model.model_runner import USUAL, Housing, SlottedModel
from nightscribe.model.sampling import FREE, MOST_PROMPT_TOKENS, draw_each, hold, probabilities_of
from nightscribe.model.speculative_tables import Leaps, Leapt, LeapTables, Sizes
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_tables import Codes


class _Ahead(NamedTuple):
    """What a pass hears, and under which guesses."""

    columns_ST: Tensor
    positions_ST: Tensor
    codes_STK: Tensor
    text_ST: Tensor


class LeapingModel(SlottedModel[LeapTables]):
    """Every slot hears `frames_per_pass` frames at once, `num_passes` times a round."""

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        frames_per_pass: int,
        num_passes: int,
        housing: Housing = USUAL,
    ) -> None:
        self.frames_per_pass, self.num_passes = frames_per_pass, num_passes
        most_steps = frames_per_pass * num_passes
        super().__init__(speech, num_slots, most_steps, frames_per_pass, housing)
        sizes = Sizes(
            num_slots=num_slots,
            frames_per_pass=frames_per_pass,
            num_columns=(self.rounds_ahead + 2) * most_steps,
            most_steps=most_steps,
            num_codebooks=self._language_model.config.num_codebooks,
            num_heads=self.num_heads,
        )
        self._tables = LeapTables.empty(sizes, self.device)
        most_prompted = num_slots * (MOST_PROMPT_TOKENS + 2)
        self._prompt_tokens_P = torch.full((most_prompted,), FREE, device=self.device)
        self._record()

    @property
    def rounds_ahead(self) -> int:
        return self._queues.rounds_ahead

    @torch.inference_mode()
    def run(self, leaps: Leaps, codes: Codes) -> Homeward[Leapt]:
        """Queue every pass of a round."""
        kind = Kind(leaps.num_slots, leaps.is_plain)
        with self._queues.on_device():
            self._queues.receive(codes.codes_JFK, codes.done)
            self._lay(leaps, codes)
            for index in range(1, self.num_passes + 1):
                self._queues.run(self._step, kind, self._reach(leaps, index))
            return self._queues.download(self._tables.first(leaps.num_slots).said(), Leapt)

    def _reach(self, leaps: Leaps, num_passes: int) -> Reach:
        """What the ring holds of each slot after so many passes, at most; an idle one stays."""
        passes_S = np.where(leaps.ends_S > 0, num_passes, 1)
        farthest_S = leaps.farthest_S + passes_S * self.frames_per_pass
        return tuple(np.minimum(farthest_S, self._cache.capacity).tolist())

    def _lay(self, leaps: Leaps, codes: Codes) -> None:
        upload, tables = self._queues.upload, self._tables.first(leaps.num_slots)
        tables.lay(leaps, upload)
        self._prompt_tokens_P[: len(leaps.prompt_tokens_P)] = upload(leaps.prompt_tokens_P)
        # Copied before they are overwritten: some of them stay.
        codes_FK = torch.cat((self._tables.codes_SCK.flatten(0, 1), codes.codes_JFK.flatten(0, 1)))
        rows = upload(leaps.frames_SC).flatten()
        tables.codes_SCK.copy_(codes_FK.index_select(0, rows).view_as(tables.codes_SCK))

    def _step(self, kind: Kind, reach: Reach) -> None:
        """Every slot hears its next frames, and keeps what no wrong guess had a part in."""
        tables, cache = self._tables.first(kind.num_slots), self._cache.first(kind.num_slots)
        ahead = self._ahead(tables)
        is_fresh_S = tables.positions_S == 0
        cache.next_positions_B.copy_(tables.positions_S)
        prediction = self._language_model.extend(
            ahead.codes_STK, ahead.text_ST, cache, is_fresh_S, reach
        )
        tables.num_said_S.masked_fill_(is_fresh_S, 0)
        due_S = self._prompt_tokens_P.index_select(0, tables.prompts_S + tables.num_said_S)
        said_ST = self._chosen(
            tables, prediction.logits_STV, ahead, None if kind.is_plain else due_S
        )
        _write(tables, said_ST, prediction)
        tables.num_said_S += said_ST[:, 0] == due_S
        num_steps_S = _num_steps(tables, ahead, said_ST, due_S)
        self._guess(tables, said_ST, num_steps_S)
        tables.num_steps_S += num_steps_S
        tables.positions_S += num_steps_S

    def _ahead(self, tables: LeapTables) -> _Ahead:
        config = self._language_model.config
        later_T = torch.arange(self.frames_per_pass, device=self.device)
        positions_ST = tables.positions_S[:, None] + later_T
        columns_ST = positions_ST - tables.bases_S[:, None]
        is_start_ST = positions_ST == 0
        codes_STK = tables.codes_SCK[_rows_S1(columns_ST), columns_ST]
        return _Ahead(
            columns_ST,
            positions_ST,
            codes_STK.masked_fill(is_start_ST[..., None], config.audio_card),
            tables.text_ST.masked_fill(is_start_ST, config.text_start_id),
        )

    def _chosen(
        self, tables: LeapTables, logits_STV: Tensor, ahead: _Ahead, due_S: Tensor | None
    ) -> Tensor:
        """What every slot says: forced, held to what is due, drawn or simply the likeliest."""
        forced_ST = tables.forced_SC.gather(1, ahead.columns_ST)
        if due_S is None:
            chosen_ST = logits_STV.argmax(dim=-1)
        else:
            held_S1V = hold(logits_STV[:, 0], due_S, self._silent_tokens)[:, None]
            held_STV = torch.cat((held_S1V, logits_STV[:, 1:]), 1)
            chosen_ST = _drawn(tables, held_STV, ahead.positions_ST)
        return torch.where(forced_ST < 0, chosen_ST, forced_ST)

    def _guess(self, tables: LeapTables, said_ST: Tensor, num_steps_S: Tensor) -> None:
        """The last right token comes first, then what was said after it, then padding.

        A slot that made no step, being idle or at its end, keeps nothing that matters.
        """
        padding_ST = torch.full_like(said_ST, self._language_model.config.padding_id)
        later_T = torch.arange(self.frames_per_pass, device=said_ST.device)
        from_ST = (num_steps_S[:, None] - 1).clamp_min(0) + later_T
        tables.text_ST.copy_(torch.cat((said_ST, padding_ST), 1).gather(1, from_ST))


def _rows_S1(x_ST: Tensor) -> Tensor:
    return torch.arange(len(x_ST), device=x_ST.device)[:, None]


def _drawn(tables: LeapTables, logits_STV: Tensor, positions_ST: Tensor) -> Tensor:
    def each(x_S: Tensor) -> Tensor:
        return x_S[:, None].expand_as(positions_ST).flatten()

    temperatures, seeds = each(tables.temperatures_S), each(tables.seeds_S)
    drawn = draw_each(logits_STV.flatten(0, 1), temperatures, seeds, positions_ST.flatten())
    return drawn.view_as(positions_ST)


def _write(tables: LeapTables, said_ST: Tensor, prediction: Prediction) -> None:
    """Of what is written here, the next pass overwrites what was not right."""
    later_T = torch.arange(said_ST.shape[1], device=said_ST.device)
    where = _rows_S1(said_ST), tables.num_steps_S[:, None] + later_T
    logits_NV = prediction.logits_STV.flatten(0, 1)
    confidences_ST = probabilities_of(said_ST.flatten(), logits_NV).view(said_ST.shape)
    tables.tokens_SW.index_put_(where, said_ST.int())
    tables.confidences_SW.index_put_(where, confidences_ST)
    if prediction.extra_STHA is not None:
        tables.heads_SWH.index_put_(where, prediction.extra_STHA[..., 0])


def _num_steps(tables: LeapTables, ahead: _Ahead, said_ST: Tensor, due_S: Tensor) -> Tensor:
    """Of a pass: as many as no wrong guess had a part in, and the stream still has."""
    is_right_ST = ahead.text_ST[:, 1:] == said_ST[:, :-1]
    num_right_S = 1 + is_right_ST.long().cumprod(dim=1).sum(dim=1)
    # What may be said inside a prompt is known for the next step alone.
    num_right_S = num_right_S.masked_fill(due_S != FREE, 1)
    return torch.minimum(num_right_S, (tables.ends_S - tables.positions_S).clamp_min(0))
