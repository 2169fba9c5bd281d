"""Which text tokens are fed at each step: a state machine over all slots, on the device.

The model decides only whether the next word begins. The machine feeds a word's tokens one step at a
time, holds back the next word while tokens are left or padding is due, and forces it when the model
has padded for too long.

S slots, and the flat arrays of `FlatScript`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.cuda_graphs import Upload
from nightscribe.model.tts.config import NEW_WORD_ID, ZERO_ID
from nightscribe.model.tts.script import FlatScript

INITIAL_PADDING, MAX_PADDING = 2, 8  # steps
NO_END = -1
ROOM = 512  # tokens or entries of a slot, to begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRules:
    """The conventions of a model."""

    padding_id: int
    second_stream_factor: int  # by which second-stream tokens are multiplied; 0: no second stream
    initial_padding: int = INITIAL_PADDING
    max_padding: int = MAX_PADDING


class Fed(NamedTuple):
    """What the machine did at one step."""

    tokens_S: Tensor
    consumed_S: Tensor  # whether an entry began
    ends_S: Tensor  # the step at which the text ended, or NO_END


@dataclass(slots=True)
class _Counters:
    """Positions of every slot in its arrays, and what is still due."""

    entry_S: Tensor
    token_S: Tensor  # next token of the entry that is being fed
    token_end_S: Tensor
    ahead_S: Tensor  # next token of the second stream
    ahead_end_S: Tensor
    remaining_S: Tensor  # padding that the model may still predict
    forced_S: Tensor  # padding that is due
    end_S: Tensor

    def move_to(self, new: "_Counters", moves_S: Tensor) -> None:
        """Take over what is new in the slots that move, in the same memory."""
        for name in _Counters.__slots__:
            kept_S = getattr(self, name)
            kept_S.copy_(torch.where(moves_S, getattr(new, name), kept_S))


class TextMachine:
    """The scripts of all slots and how far each has been fed."""

    def __init__(
        self,
        num_slots: int,
        rules: MachineRules,
        device: torch.device,
        upload: Upload = torch.from_numpy,
    ) -> None:
        self.rules, self._upload = rules, upload
        zeros_S = torch.zeros(num_slots, dtype=torch.int64, device=device)
        self._num_entries_S = zeros_S.clone()
        zeros_SX = zeros_S.new_zeros(num_slots, ROOM)
        self._tokens_ST, self._starts_SE, self._paddings_SE = (zeros_SX.clone() for _ in range(3))
        self._ahead_SA, self._ahead_ends_SE = zeros_SX.clone(), zeros_SX.clone()
        self._counters = _Counters(*(zeros_S.clone() for _ in _Counters.__slots__))

    @property
    def layout(self) -> tuple[int, ...]:
        """Changes when a table has moved to other memory."""
        tables = self._tokens_ST, self._starts_SE, self._paddings_SE, self._ahead_SA
        return tuple(table.shape[1] for table in (*tables, self._ahead_ends_SE))

    def begin(self, slot: int, script: FlatScript) -> None:
        """Put a script in a slot, to be fed from the slot's next step on."""
        self.continue_with(slot, script)
        counters = self._counters
        for name in ("entry_S", "token_S", "token_end_S", "ahead_S", "ahead_end_S"):
            getattr(counters, name)[slot].fill_(0)
        for padding_S in (counters.remaining_S, counters.forced_S):
            padding_S[slot].fill_(self.rules.initial_padding)
        counters.end_S[slot].fill_(NO_END)

    def continue_with(self, slot: int, script: FlatScript) -> None:
        """Replace the script of a slot by one that begins with the same entries.

        An entry may only have begun while as many words as are fed ahead stood behind it.
        """
        self._tokens_ST = self._with_row(self._tokens_ST, slot, script.tokens_T)
        self._starts_SE = self._with_row(self._starts_SE, slot, script.starts_E1)
        self._paddings_SE = self._with_row(self._paddings_SE, slot, script.paddings_E)
        self._ahead_SA = self._with_row(self._ahead_SA, slot, script.ahead_tokens_A)
        self._ahead_ends_SE = self._with_row(self._ahead_ends_SE, slot, script.ahead_ends_E)
        self._num_entries_S[slot].fill_(len(script.paddings_E))

    def _with_row(self, table_SX: Tensor, slot: int, row: tuple[int, ...]) -> Tensor:
        """The table with this row, made wider if needed."""
        if len(row) > table_SX.shape[1]:
            wider = table_SX.new_zeros(len(table_SX), max(len(row), 2 * table_SX.shape[1]))
            wider[:, : table_SX.shape[1]] = table_SX
            table_SX = wider
        table_SX[slot, : len(row)] = self._upload(np.array(row, np.int64))
        return table_SX

    def step(self, is_new_word_S: Tensor, steps_S: Tensor, moves_S: Tensor) -> Fed:
        """Feed one token to every slot; slots outside `moves_S` keep their state."""
        before = self._counters
        now, begins_S = self._consume(is_new_word_S, steps_S)
        consumed_S = (now.entry_S > before.entry_S) & moves_S
        tokens_S = self._feed(now, begins_S)
        before.move_to(now, moves_S)
        return Fed(tokens_S, consumed_S, before.end_S)

    def _consume(self, is_new_word_S: Tensor, steps_S: Tensor) -> tuple[_Counters, Tensor]:
        """Take the next entry where a word may begin; whether one begins."""
        now = self._counters
        must_wait_S = (now.token_S < now.token_end_S) | (now.forced_S > 0)
        wants_S = ~must_wait_S & (is_new_word_S | (now.remaining_S <= 0))
        has_entry_S = now.entry_S < self._num_entries_S
        takes_S = wants_S & has_entry_S
        starts_S = _at(self._starts_SE, now.entry_S)
        token_ends_S = _at(self._starts_SE, now.entry_S + 1)
        takes_word_S = takes_S & (token_ends_S > starts_S)
        ends_S = wants_S & ~has_entry_S & (now.end_S == NO_END)
        begins_S = takes_word_S | ends_S if self.rules.second_stream_factor else takes_word_S
        remaining_S = now.remaining_S.masked_fill(takes_word_S, self.rules.max_padding)
        forced_S = torch.where(takes_S, _at(self._paddings_SE, now.entry_S), now.forced_S)
        ahead_ends_S = _at(self._ahead_ends_SE, now.entry_S)
        pads_S = (~begins_S).long()
        return _Counters(
            entry_S=now.entry_S + takes_S,
            token_S=torch.where(takes_word_S, starts_S, now.token_S),
            token_end_S=torch.where(takes_word_S, token_ends_S, now.token_end_S),
            ahead_S=now.ahead_S,
            ahead_end_S=torch.where(takes_word_S, ahead_ends_S, now.ahead_end_S),
            remaining_S=(remaining_S - pads_S).clamp_min(0),
            forced_S=(forced_S - pads_S).clamp_min(0),
            end_S=torch.where(ends_S, steps_S, now.end_S),
        ), begins_S

    def _feed(self, now: _Counters, begins_S: Tensor) -> Tensor:
        tokens_S = self._next_token(now, ~begins_S).masked_fill(begins_S, NEW_WORD_ID)
        factor = self.rules.second_stream_factor
        if not factor:
            return tokens_S
        # "New word" moves to the second stream, so that the word's first token is fed at once.
        is_new_word_S = tokens_S == NEW_WORD_ID
        second_S = self._next_ahead(now, ~is_new_word_S).masked_fill(is_new_word_S, NEW_WORD_ID)
        tokens_S = torch.where(is_new_word_S, self._next_token(now, is_new_word_S), tokens_S)
        return (second_S + 1) * factor + tokens_S

    def _next_token(self, now: _Counters, takes_S: Tensor) -> Tensor:
        """The next token of the word in these slots; padding where none is left."""
        takes_S = takes_S & (now.token_S < now.token_end_S)
        tokens_S = _at(self._tokens_ST, now.token_S)
        now.token_S = now.token_S + takes_S
        return tokens_S.masked_fill(~takes_S, self.rules.padding_id)

    def _next_ahead(self, now: _Counters, takes_S: Tensor) -> Tensor:
        takes_S = takes_S & (now.ahead_S < now.ahead_end_S)
        tokens_S = _at(self._ahead_SA, now.ahead_S)
        now.ahead_S = now.ahead_S + takes_S
        return tokens_S.masked_fill(~takes_S, ZERO_ID)


def _at(table_SX: Tensor, index_S: Tensor) -> Tensor:
    return table_SX.gather(1, index_S.clamp(0, table_SX.shape[1] - 1)[:, None])[:, 0]
