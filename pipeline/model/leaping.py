"""A checkpoint whose slots hear several frames in one pass, and are right as often as they can be.

What is heard at a step is known beforehand, but for the token said at the step before. That is
guessed: a pass hears the next frames with guesses for these tokens, and a step is right if all the
guesses before it were. What was said after the first wrong one is heard again by the next pass,
and is its guess; further ahead padding is, which most tokens are. So the first steps of a pass are
those that single steps would have made, and at least one is.

S slots, T frames of a pass, W columns of a round, K codebooks, V text tokens, H extra heads,
P tokens of all prompts.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.model.attention import Reach
from pipeline.model.decoding import FREE, MOST_PROMPT_TOKENS, draw_each, hold, probabilities_of
from pipeline.model.encoding import SlottedMimi
from pipeline.model.language_model import Prediction
from pipeline.model.packing import pack
from pipeline.model.queues import Kind, Queues
from pipeline.model.speech_to_text import SpeechToText
from pipeline.model.tables import Chunk, Codes


class Leaps(Protocol):
    """A round, as the engine lays it out."""

    @property
    def positions_S(self) -> np.ndarray: ...
    @property
    def left_S(self) -> np.ndarray: ...
    @property
    def frames_SW(self) -> np.ndarray: ...
    @property
    def forced_SW(self) -> np.ndarray: ...
    @property
    def temperatures_S(self) -> np.ndarray: ...
    @property
    def seeds_S(self) -> np.ndarray: ...
    @property
    def prompts_S(self) -> np.ndarray: ...
    @property
    def prompt_tokens_P(self) -> np.ndarray: ...


class Leapt(NamedTuple):
    """What a round said, on the host; of a slot's columns only its first steps count."""

    num_steps_S: np.ndarray
    tokens_SW: np.ndarray
    confidences_SW: np.ndarray
    heads_SWH: np.ndarray


class _Ahead(NamedTuple):
    """What a pass hears, and under which guesses."""

    columns_ST: Tensor
    positions_ST: Tensor
    codes_STK: Tensor
    text_ST: Tensor


@dataclass(slots=True)
class _Tables:
    """All that a round reads and writes."""

    num_steps_S: Tensor  # that a slot has made in this round
    positions_S: Tensor  # where it stood at its beginning
    left_S: Tensor
    temperatures_S: Tensor
    seeds_S: Tensor
    prompts_S: Tensor  # where in `prompt_tokens_P` the slot's prompt begins
    prompt_tokens_P: Tensor
    num_said_S: Tensor  # of each slot's prompt, kept from round to round
    text_ST: Tensor  # what was said last, then guesses
    codes_SWK: Tensor
    forced_SW: Tensor
    tokens_SW: Tensor
    confidences_SW: Tensor
    heads_SWH: Tensor


class LeapingModel:
    """Mimi's and the language model's state for `num_slots` streams that leap."""

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        frames_per_pass: int,
        num_passes: int,
        *,
        encode_rows: int | None = None,
        use_graphs: bool = True,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        self.num_slots, self.frames_per_pass = num_slots, frames_per_pass
        self.num_passes = num_passes
        self._width = frames_per_pass * num_passes
        self._language_model = speech.language_model
        pack(speech.language_model, num_slots * frames_per_pass)
        self._queues = Queues(speech.device, use_graphs=use_graphs)
        self._mimi = SlottedMimi(speech, self._queues, num_slots, self._width, encode_rows)
        self._cache = speech.language_model.empty_cache(num_slots, frames_per_pass, cache_dtype)
        self._tables = self._empty_tables()
        self._padding = torch.full_like(
            self._tables.text_ST, speech.language_model.config.padding_id
        )
        self._silent_tokens = torch.tensor(speech.silent_tokens, device=speech.device)
        self._rows_S1 = torch.arange(num_slots, device=speech.device)[:, None]
        for is_plain in (True, False):
            self._queues.capture(self._pass, Kind(num_slots, is_plain))
        self._queues.join()

    @property
    def frame_samples(self) -> int:
        return self._mimi.frame_samples

    @property
    def num_heads(self) -> int:
        return self._language_model.config.num_extra_heads

    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a queue of its own."""
        return self._mimi.encode(chunk)

    def _empty_tables(self) -> _Tables:
        def table(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(self.num_slots, *shape, dtype=dtype, device=self._queues.device)

        # A pass may write past the steps that it makes.
        width = 2 * self._width
        return _Tables(
            num_steps_S=table(),
            positions_S=table(),
            left_S=table(),
            temperatures_S=table(dtype=torch.float32),
            seeds_S=table(),
            prompts_S=table(),
            prompt_tokens_P=torch.full_like(table(MOST_PROMPT_TOKENS + 2).flatten(), FREE),
            num_said_S=table(),
            text_ST=table(self.frames_per_pass),
            codes_SWK=table(width, self._language_model.config.num_codebooks),
            forced_SW=table(width),
            tokens_SW=table(width, dtype=torch.int32),
            confidences_SW=table(width, dtype=torch.float32),
            heads_SWH=table(width, self.num_heads, dtype=torch.float32),
        )

    @torch.inference_mode()
    def run(self, leaps: Leaps, codes: Codes) -> Leapt:
        """Run every pass of a round and wait for what it says."""
        self._queues.receive(codes.codes_JFK, codes.done)
        self._lay(leaps, codes)
        is_plain = not leaps.temperatures_S.any() and not leaps.prompts_S.any()
        kind = Kind(self.num_slots, is_plain)
        for index in range(1, self.num_passes + 1):
            # An idle slot stays where it is.
            passes_S = np.where(leaps.left_S > 0, index, 1)
            farthest_S = leaps.positions_S + passes_S * self.frames_per_pass
            reach = tuple(np.minimum(farthest_S, self._cache.capacity).tolist())
            self._queues.run(self._pass, kind, reach)
        tables, width = self._tables, self._width
        said = (tables.tokens_SW, tables.confidences_SW, tables.heads_SWH)
        copies = [tables.num_steps_S.clone(), *(table[:, :width].clone() for table in said)]
        return Leapt(*self._queues.download(copies).wait())

    def _lay(self, leaps: Leaps, codes: Codes) -> None:
        tables, upload = self._tables, self._queues.upload
        tables.num_steps_S.zero_()
        tables.positions_S.copy_(upload(leaps.positions_S))
        tables.left_S.copy_(upload(leaps.left_S))
        tables.forced_SW.copy_(upload(leaps.forced_SW))
        tables.temperatures_S.copy_(upload(leaps.temperatures_S))
        tables.seeds_S.copy_(upload(leaps.seeds_S))
        tables.prompts_S.copy_(upload(leaps.prompts_S))
        tables.prompt_tokens_P[: len(leaps.prompt_tokens_P)] = upload(leaps.prompt_tokens_P)
        # Copied before they are overwritten: some of them stay.
        codes_FK = torch.cat((tables.codes_SWK.flatten(0, 1), codes.codes_JFK.flatten(0, 1)))
        rows = upload(leaps.frames_SW).flatten()
        tables.codes_SWK.copy_(codes_FK.index_select(0, rows).view_as(tables.codes_SWK))

    def _pass(self, kind: Kind, reach: Reach) -> None:
        """Every slot hears its next frames, and keeps what no wrong guess had a part in."""
        tables, ahead = self._tables, self._ahead()
        cache, is_fresh_S = self._cache, ahead.positions_ST[:, 0] == 0
        cache.next_positions_B.copy_(ahead.positions_ST[:, 0])
        prediction = self._language_model.extend(
            ahead.codes_STK, ahead.text_ST, cache, is_fresh_S, reach
        )
        due_S = self._due(is_fresh_S)
        said_ST = self._chosen(prediction.logits_STV, ahead, None if kind.is_plain else due_S)
        self._write(ahead.columns_ST, said_ST, prediction)
        is_right_ST = ahead.text_ST[:, 1:] == said_ST[:, :-1]
        num_right_S = 1 + is_right_ST.long().cumprod(dim=1).sum(dim=1)
        # What may be said inside a prompt is known for the next step alone.
        num_right_S = num_right_S.masked_fill(due_S != FREE, 1)
        tables.num_said_S += said_ST[:, 0] == due_S
        num_steps_S = torch.minimum(num_right_S, tables.left_S - tables.num_steps_S)
        self._guess(said_ST, num_steps_S)
        tables.num_steps_S += num_steps_S

    def _ahead(self) -> _Ahead:
        tables, config = self._tables, self._language_model.config
        steps_T = torch.arange(self.frames_per_pass, device=self._queues.device)
        columns_ST = tables.num_steps_S[:, None] + steps_T
        positions_ST = tables.positions_S[:, None] + columns_ST
        is_start_ST = positions_ST == 0
        codes_STK = tables.codes_SWK[self._rows_S1, columns_ST]
        return _Ahead(
            columns_ST,
            positions_ST,
            codes_STK.masked_fill(is_start_ST[..., None], config.audio_card),
            tables.text_ST.masked_fill(is_start_ST, config.text_start_id),
        )

    def _due(self, is_fresh_S: Tensor) -> Tensor:
        """The next token of every slot's prompt, if it is inside one."""
        tables = self._tables
        tables.num_said_S.masked_fill_(is_fresh_S, 0)
        return tables.prompt_tokens_P.index_select(0, tables.prompts_S + tables.num_said_S)

    def _chosen(self, logits_STV: Tensor, ahead: _Ahead, due_S: Tensor | None) -> Tensor:
        """What every slot says: forced, held to what is due, drawn or simply the likeliest."""
        forced_ST = self._tables.forced_SW[self._rows_S1, ahead.columns_ST]
        if due_S is None:
            chosen_ST = logits_STV.argmax(dim=-1)
        else:
            held_S1V = hold(logits_STV[:, 0], due_S, self._silent_tokens)[:, None]
            chosen_ST = self._drawn(torch.cat((held_S1V, logits_STV[:, 1:]), 1), ahead.positions_ST)
        return torch.where(forced_ST < 0, chosen_ST, forced_ST)

    def _drawn(self, logits_STV: Tensor, positions_ST: Tensor) -> Tensor:
        def each(x_S: Tensor) -> Tensor:
            return x_S[:, None].expand_as(positions_ST).flatten()

        temperatures, seeds = each(self._tables.temperatures_S), each(self._tables.seeds_S)
        drawn = draw_each(logits_STV.flatten(0, 1), temperatures, seeds, positions_ST.flatten())
        return drawn.view_as(positions_ST)

    def _write(self, columns_ST: Tensor, said_ST: Tensor, prediction: Prediction) -> None:
        """Of what is written here, the next pass overwrites what was not right."""
        tables, where = self._tables, (self._rows_S1, columns_ST)
        logits_NV = prediction.logits_STV.flatten(0, 1)
        confidences_ST = probabilities_of(said_ST.flatten(), logits_NV).view(said_ST.shape)
        tables.tokens_SW.index_put_(where, said_ST.int())
        tables.confidences_SW.index_put_(where, confidences_ST)
        if prediction.extra_STHA is not None:
            tables.heads_SWH.index_put_(where, prediction.extra_STHA[..., 0])

    def _guess(self, said_ST: Tensor, num_steps_S: Tensor) -> None:
        """The last right token comes first, then what was said after it, then padding.

        A slot that made no step, being idle or at its end, keeps nothing that matters.
        """
        later = torch.arange(self.frames_per_pass, device=said_ST.device)
        from_ST = (num_steps_S[:, None] - 1).clamp_min(0) + later
        self._tables.text_ST.copy_(torch.cat((said_ST, self._padding), 1).gather(1, from_ST))
