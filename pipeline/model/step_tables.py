"""What a round of steps reads and writes: tables on the device with one row per step.

The engine lays a round out on the host; here it becomes tensors whose places never change, so that
a recorded step finds them.

S slots, T steps of a round, J jobs of a chunk, F frames, K codebooks, H extra heads, P tokens of
all prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.sampling import FREE, MOST_PROMPT_TOKENS

Upload = Callable[[np.ndarray], Tensor]


class Chunk(Protocol):
    """Samples to encode, as the engine lays them out."""

    @property
    def num_frames(self) -> int: ...
    @property
    def frames_J(self) -> np.ndarray: ...
    @property
    def pieces(self) -> Sequence[np.ndarray]: ...
    @property
    def slots_J(self) -> np.ndarray: ...
    @property
    def fresh_J(self) -> np.ndarray: ...
    @property
    def kept_J(self) -> np.ndarray: ...


class Steps(Protocol):
    """A round, as the engine lays it out."""

    @property
    def positions_TS(self) -> np.ndarray: ...
    @property
    def frames_TS(self) -> np.ndarray: ...
    @property
    def forced_TS(self) -> np.ndarray: ...
    @property
    def temperatures_TS(self) -> np.ndarray: ...
    @property
    def seeds_TS(self) -> np.ndarray: ...
    @property
    def prompts_TS(self) -> np.ndarray: ...
    @property
    def prompt_tokens_P(self) -> np.ndarray: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def num_slots(self) -> int: ...
    @property
    def is_plain(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes of a chunk, and the sign that they are there."""

    codes_JFK: Tensor
    done: torch.cuda.Event | None


class Answers(NamedTuple):
    """What a round said, on the host."""

    tokens_TS: np.ndarray
    confidences_TS: np.ndarray
    heads_TSH: np.ndarray


class Heard(NamedTuple):
    """What every slot hears at the present step."""

    positions_S: Tensor
    codes_SK: Tensor
    forced_S: Tensor


class Manner(NamedTuple):
    """How every slot chooses its token at the present step."""

    temperatures_S: Tensor
    seeds_S: Tensor
    prompts_S: Tensor  # where in `prompt_tokens_P` the slot's prompt begins


@dataclass(slots=True)
class Tables:
    """All that a round reads, and all that it writes."""

    # Kept from round to round.
    last_tokens_S: Tensor
    num_said_S: Tensor  # of each slot's prompt
    # Laid anew.
    step_1: Tensor  # the present one
    positions_TS: Tensor
    forced_TS: Tensor
    temperatures_TS: Tensor
    seeds_TS: Tensor
    prompts_TS: Tensor
    prompt_tokens_P: Tensor
    codes_TSK: Tensor
    # Said.
    tokens_TS: Tensor
    confidences_TS: Tensor
    heads_TSH: Tensor

    @classmethod
    def empty(
        cls, shape_TS: tuple[int, int], num_codebooks: int, num_heads: int, device: torch.device
    ) -> Self:
        def table(*extra: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(*shape_TS, *extra, dtype=dtype, device=device)

        num_steps, num_slots = shape_TS
        # Of a slot's streams in one round only the first can be long in its prompt.
        most_prompted = 1 + num_slots * (MOST_PROMPT_TOKENS + 1 + 2 * num_steps)
        return cls(
            last_tokens_S=torch.zeros(num_slots, dtype=torch.int64, device=device),
            num_said_S=torch.zeros(num_slots, dtype=torch.int64, device=device),
            step_1=torch.zeros(1, dtype=torch.int64, device=device),
            positions_TS=table(),
            forced_TS=table(),
            temperatures_TS=table(dtype=torch.float32),
            seeds_TS=table(),
            prompts_TS=table(),
            prompt_tokens_P=torch.full((most_prompted,), FREE, device=device),
            codes_TSK=table(num_codebooks),
            tokens_TS=table(dtype=torch.int32),
            confidences_TS=table(dtype=torch.float32),
            heads_TSH=table(num_heads, dtype=torch.float32),
        )

    @property
    def kept(self) -> tuple[Tensor, ...]:
        return self.last_tokens_S, self.num_said_S

    def rewind(self) -> None:
        self.step_1.zero_()

    def lay(self, steps: Steps, codes: Sequence[Codes], upload: Upload) -> None:
        """Take over a round; its frames are rows of the given codes, counted in order."""
        span = slice(steps.num_steps), slice(steps.num_slots)
        self.rewind()
        self.positions_TS[span] = upload(steps.positions_TS).long()
        self.forced_TS[span] = upload(steps.forced_TS).long()
        if not steps.is_plain:
            self._lay_manner(steps, span, upload)
        codes_FK = torch.cat([chunk.codes_JFK.flatten(0, 1) for chunk in codes])
        if len(codes_FK):
            frames_TS = upload(steps.frames_TS)
            codes_TSK = codes_FK.index_select(0, frames_TS.flatten())
            self.codes_TSK[span] = codes_TSK.unflatten(0, frames_TS.shape)

    def _lay_manner(self, steps: Steps, span: tuple[slice, slice], upload: Upload) -> None:
        self.temperatures_TS[span] = upload(steps.temperatures_TS)
        self.seeds_TS[span] = upload(steps.seeds_TS)
        self.prompts_TS[span] = upload(steps.prompts_TS)
        self.prompt_tokens_P[: len(steps.prompt_tokens_P)] = upload(steps.prompt_tokens_P)

    def heard(self, num_slots: int) -> Heard:
        tables = self.positions_TS, self.codes_TSK, self.forced_TS
        return Heard(*(self._now(table, num_slots) for table in tables))

    def manner(self, num_slots: int) -> Manner:
        tables = self.temperatures_TS, self.seeds_TS, self.prompts_TS
        return Manner(*(self._now(table, num_slots) for table in tables))

    def _now(self, table_TS: Tensor, num_slots: int) -> Tensor:
        return table_TS.index_select(0, self.step_1)[0, :num_slots]

    def write(self, tokens_S: Tensor, confidences_S: Tensor, heads_SH: Tensor | None) -> None:
        """What was said at the present step, which is then over."""
        self._put(self.tokens_TS, tokens_S.int())
        self._put(self.confidences_TS, confidences_S)
        if heads_SH is not None:
            self._put(self.heads_TSH, heads_SH)
        self.step_1 += 1

    def _put(self, table_TS: Tensor, said_S: Tensor) -> None:
        table_TS[:, : len(said_S)].index_copy_(0, self.step_1, said_S[None])

    def said(self, num_steps: int, num_slots: int) -> list[Tensor]:
        """Copies of the answers to the round's steps."""
        tables = self.tokens_TS, self.confidences_TS, self.heads_TSH
        return [table[:num_steps, :num_slots].clone() for table in tables]
