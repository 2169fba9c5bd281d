"""A checkpoint whose slots hear several frames in one pass, and are right as often as they can be.

What is heard at a step is known beforehand, but for the token said at the step before. That is
guessed: a pass hears the next frames with guesses for these tokens, and a step is right if all the
guesses before it were. What was said after the first wrong one is heard again by the next pass,
and is its guess; further ahead padding is, which most tokens are. So the first steps of a pass are
those that single steps would have made, and at least one is.

S slots, T frames of a pass, C columns of a slot, W steps that it may make in a round, K codebooks,
V text tokens, H extra heads, P tokens of all prompts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from pipeline.model.attention import Reach
from pipeline.model.decoding import FREE, MOST_PROMPT_TOKENS, draw_each, hold, probabilities_of
from pipeline.model.encoding import SlottedMimi
from pipeline.model.language_model import Prediction
from pipeline.model.packing import pack
from pipeline.model.queues import Homeward, Kind, Queues
from pipeline.model.slotted import halves
from pipeline.model.speech_to_text import SpeechToText
from pipeline.model.tables import Chunk, Codes, Upload


class Leaps(Protocol):
    """A round, as the engine lays it out."""

    @property
    def starts_S(self) -> np.ndarray: ...
    @property
    def ends_S(self) -> np.ndarray: ...
    @property
    def bases_S(self) -> np.ndarray: ...
    @property
    def farthest_S(self) -> np.ndarray: ...
    @property
    def frames_SC(self) -> np.ndarray: ...
    @property
    def forced_SC(self) -> np.ndarray: ...
    @property
    def temperatures_S(self) -> np.ndarray: ...
    @property
    def seeds_S(self) -> np.ndarray: ...
    @property
    def prompts_S(self) -> np.ndarray: ...
    @property
    def prompt_tokens_P(self) -> np.ndarray: ...
    @property
    def is_plain(self) -> bool: ...


class Leapt(NamedTuple):
    """What a round said, on the host; of a slot's columns only its first steps count."""

    num_steps_S: np.ndarray
    tokens_SW: np.ndarray
    confidences_SW: np.ndarray
    heads_SWH: np.ndarray


@dataclass(frozen=True, slots=True)
class Leaping:
    """A round on its way to the host."""

    tables: Homeward

    def wait(self) -> Leapt:
        return Leapt(*self.tables.wait())


class _Ahead(NamedTuple):
    """What a pass hears, and under which guesses."""

    columns_ST: Tensor
    positions_ST: Tensor
    codes_STK: Tensor
    text_ST: Tensor


@dataclass(slots=True)
class _Tables:
    """All that a round reads and writes."""

    # Kept from round to round.
    positions_S: Tensor  # where each slot stands
    num_said_S: Tensor  # of its prompt
    text_ST: Tensor  # what was said last, then guesses
    codes_SCK: Tensor
    # Laid anew.
    num_steps_S: Tensor  # that a slot has made in this round
    ends_S: Tensor
    bases_S: Tensor
    forced_SC: Tensor
    temperatures_S: Tensor
    seeds_S: Tensor
    prompts_S: Tensor  # where in `prompt_tokens_P` the slot's prompt begins
    # Said.
    tokens_SW: Tensor
    confidences_SW: Tensor
    heads_SWH: Tensor

    @property
    def kept(self) -> tuple[Tensor, ...]:
        return self.positions_S, self.num_said_S, self.text_ST, self.codes_SCK

    def first(self, num_slots: int) -> Self:
        """The same memory, for the first slots only."""
        return type(self)(*(getattr(self, field.name)[:num_slots] for field in fields(self)))

    def lay(self, leaps: Leaps, upload: Upload) -> None:
        self.num_steps_S.zero_()
        starts_S = upload(leaps.starts_S)
        self.positions_S.copy_(torch.where(starts_S < 0, self.positions_S, starts_S))
        self.ends_S.copy_(upload(leaps.ends_S))
        self.bases_S.copy_(upload(leaps.bases_S))
        self.forced_SC.copy_(upload(leaps.forced_SC))
        self.temperatures_S.copy_(upload(leaps.temperatures_S))
        self.seeds_S.copy_(upload(leaps.seeds_S))
        self.prompts_S.copy_(upload(leaps.prompts_S))

    def said(self) -> list[Tensor]:
        """Copies of the answers."""
        tables = self.num_steps_S, self.tokens_SW, self.confidences_SW, self.heads_SWH
        return [table.clone() for table in tables]


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
        self.frames_per_pass, self.num_passes = frames_per_pass, num_passes
        self.bucket_sizes = halves(num_slots)
        self._width = frames_per_pass * num_passes
        self._language_model = speech.language_model
        pack(speech.language_model, num_slots * frames_per_pass)
        self._queues = Queues(speech.device, use_graphs=use_graphs)
        self._mimi = SlottedMimi(speech, self._queues, num_slots, self._width, encode_rows)
        self._cache = speech.language_model.empty_cache(num_slots, frames_per_pass, cache_dtype)
        self._tables = self._empty_tables(num_slots)
        self._prompt_tokens_P = torch.full(
            (num_slots * (MOST_PROMPT_TOKENS + 2),), FREE, device=speech.device
        )
        self._silent_tokens = torch.tensor(speech.silent_tokens, device=speech.device)
        with self._queues.on_device():
            for kind in product(self.bucket_sizes, (True, False)):
                self._queues.capture(self._pass, Kind(*kind))
            self._queues.join()

    @property
    def rounds_ahead(self) -> int:
        return self._queues.rounds_ahead

    @property
    def frame_samples(self) -> int:
        return self._mimi.frame_samples

    @property
    def num_heads(self) -> int:
        return self._language_model.config.num_extra_heads

    def memory(self) -> Iterator[Tensor]:
        """Every tensor in which the slots remember what they have heard."""
        yield from self._mimi.memory()
        yield from (*self._cache.keys.tensors(), *self._cache.values.tensors())

    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a queue of its own."""
        return self._mimi.encode(chunk)

    def _empty_tables(self, num_slots: int) -> _Tables:
        def table(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(num_slots, *shape, dtype=dtype, device=self._queues.device)

        num_columns = (self.rounds_ahead + 2) * self._width
        return _Tables(
            positions_S=table(),
            num_said_S=table(),
            text_ST=table(self.frames_per_pass),
            codes_SCK=table(num_columns, self._language_model.config.num_codebooks),
            num_steps_S=table(),
            ends_S=table(),
            bases_S=table(),
            forced_SC=table(num_columns),
            temperatures_S=table(dtype=torch.float32),
            seeds_S=table(),
            prompts_S=table(),
            tokens_SW=table(self._width, dtype=torch.int32),
            confidences_SW=table(self._width, dtype=torch.float32),
            heads_SWH=table(self._width, self.num_heads, dtype=torch.float32),
        )

    @torch.inference_mode()
    def run(self, leaps: Leaps, codes: Codes) -> Leaping:
        """Queue every pass of a round."""
        num_slots = len(leaps.ends_S)
        kind = Kind(num_slots, leaps.is_plain)
        with self._queues.on_device():
            self._queues.receive(codes.codes_JFK, codes.done)
            self._lay(leaps, codes)
            for index in range(1, self.num_passes + 1):
                self._queues.run(self._pass, kind, self._reach(leaps, index))
            return Leaping(self._queues.download(self._tables.first(num_slots).said()))

    def _reach(self, leaps: Leaps, num_passes: int) -> Reach:
        """What the ring holds of each slot after so many passes, at most; an idle one stays."""
        passes_S = np.where(leaps.ends_S > 0, num_passes, 1)
        farthest_S = leaps.farthest_S + passes_S * self.frames_per_pass
        return tuple(np.minimum(farthest_S, self._cache.capacity).tolist())

    def _lay(self, leaps: Leaps, codes: Codes) -> None:
        upload, tables = self._queues.upload, self._tables.first(len(leaps.ends_S))
        tables.lay(leaps, upload)
        self._prompt_tokens_P[: len(leaps.prompt_tokens_P)] = upload(leaps.prompt_tokens_P)
        # Copied before they are overwritten: some of them stay.
        codes_FK = torch.cat((self._tables.codes_SCK.flatten(0, 1), codes.codes_JFK.flatten(0, 1)))
        rows = upload(leaps.frames_SC).flatten()
        tables.codes_SCK.copy_(codes_FK.index_select(0, rows).view_as(tables.codes_SCK))

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy everything the slots `sources` remember to the slots `targets`."""
        for rows, places in self._queues.moves(sources, targets):
            self._mimi.move(rows, places)
            self._cache.put(places, self._cache.rows(rows))
            for table in self._tables.kept:
                table.index_copy_(0, places, table.index_select(0, rows))

    def _pass(self, kind: Kind, reach: Reach) -> None:
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

    def _ahead(self, tables: _Tables) -> _Ahead:
        config = self._language_model.config
        later_T = torch.arange(self.frames_per_pass, device=self._queues.device)
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
        self, tables: _Tables, logits_STV: Tensor, ahead: _Ahead, due_S: Tensor | None
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

    def _guess(self, tables: _Tables, said_ST: Tensor, num_steps_S: Tensor) -> None:
        """The last right token comes first, then what was said after it, then padding.

        A slot that made no step, being idle or at its end, keeps nothing that matters.
        """
        padding_ST = torch.full_like(said_ST, self._language_model.config.padding_id)
        later_T = torch.arange(self.frames_per_pass, device=said_ST.device)
        from_ST = (num_steps_S[:, None] - 1).clamp_min(0) + later_T
        tables.text_ST.copy_(torch.cat((said_ST, padding_ST), 1).gather(1, from_ST))


def _rows_S1(x_ST: Tensor) -> Tensor:
    return torch.arange(len(x_ST), device=x_ST.device)[:, None]


def _drawn(tables: _Tables, logits_STV: Tensor, positions_ST: Tensor) -> Tensor:
    def each(x_S: Tensor) -> Tensor:
        return x_S[:, None].expand_as(positions_ST).flatten()

    temperatures, seeds = each(tables.temperatures_S), each(tables.seeds_S)
    drawn = draw_each(logits_STV.flatten(0, 1), temperatures, seeds, positions_ST.flatten())
    return drawn.view_as(positions_ST)


def _write(tables: _Tables, said_ST: Tensor, prediction: Prediction) -> None:
    """Of what is written here, the next pass overwrites what was not right."""
    later_T = torch.arange(said_ST.shape[1], device=said_ST.device)
    where = _rows_S1(said_ST), tables.num_steps_S[:, None] + later_T
    logits_NV = prediction.logits_STV.flatten(0, 1)
    confidences_ST = probabilities_of(said_ST.flatten(), logits_NV).view(said_ST.shape)
    tables.tokens_SW.index_put_(where, said_ST.int())
    tables.confidences_SW.index_put_(where, confidences_ST)
    if prediction.extra_STHA is not None:
        tables.heads_SWH.index_put_(where, prediction.extra_STHA[..., 0])


def _num_steps(tables: _Tables, ahead: _Ahead, said_ST: Tensor, due_S: Tensor) -> Tensor:
    """Of a pass: as many as no wrong guess had a part in, and the stream still has."""
    is_right_ST = ahead.text_ST[:, 1:] == said_ST[:, :-1]
    num_right_S = 1 + is_right_ST.long().cumprod(dim=1).sum(dim=1)
    # What may be said inside a prompt is known for the next step alone.
    num_right_S = num_right_S.masked_fill(due_S != FREE, 1)
    return torch.minimum(num_right_S, (tables.ends_S - tables.positions_S).clamp_min(0))
