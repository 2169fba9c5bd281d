"""What a round of leaps reads and writes: tables on the device with one row per slot.

As in `tables`, but for what only the device knows: how far each slot has come.

S slots, C columns of a slot, W steps that it may make in a round, T frames of a pass, K codebooks,
H extra heads, P tokens of all prompts.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.step_tables import Upload


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
    def num_slots(self) -> int: ...
    @property
    def is_plain(self) -> bool: ...


class Leapt(NamedTuple):
    """What a round said, on the host; of a slot's columns only its first steps count."""

    num_steps_S: np.ndarray
    tokens_SW: np.ndarray
    confidences_SW: np.ndarray
    heads_SWH: np.ndarray


class Sizes(NamedTuple):
    """What the tables of a model have room for."""

    num_slots: int
    frames_per_pass: int
    num_columns: int
    most_steps: int  # of a slot in a round
    num_codebooks: int
    num_heads: int


@dataclass(slots=True)
class LeapTables:
    """All that a round reads, and all that it writes."""

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
    prompts_S: Tensor  # where among the tokens of all prompts the slot's own begins
    # Said.
    tokens_SW: Tensor
    confidences_SW: Tensor
    heads_SWH: Tensor

    @classmethod
    def empty(cls, sizes: Sizes, device: torch.device) -> Self:
        def table(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(sizes.num_slots, *shape, dtype=dtype, device=device)

        return cls(
            positions_S=table(),
            num_said_S=table(),
            text_ST=table(sizes.frames_per_pass),
            codes_SCK=table(sizes.num_columns, sizes.num_codebooks),
            num_steps_S=table(),
            ends_S=table(),
            bases_S=table(),
            forced_SC=table(sizes.num_columns),
            temperatures_S=table(dtype=torch.float32),
            seeds_S=table(),
            prompts_S=table(),
            tokens_SW=table(sizes.most_steps, dtype=torch.int32),
            confidences_SW=table(sizes.most_steps, dtype=torch.float32),
            heads_SWH=table(sizes.most_steps, sizes.num_heads, dtype=torch.float32),
        )

    @property
    def kept(self) -> tuple[Tensor, ...]:
        return self.positions_S, self.num_said_S, self.text_ST, self.codes_SCK

    def rewind(self) -> None:
        self.num_steps_S.zero_()

    def first(self, num_slots: int) -> Self:
        """The same memory, for the first slots only."""
        return type(self)(*(getattr(self, field.name)[:num_slots] for field in fields(self)))

    def lay(self, leaps: Leaps, upload: Upload) -> None:
        """Take over a round, all but its codes."""
        self.rewind()
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
