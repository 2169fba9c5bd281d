"""What Mimi's encoder keeps of every row between two calls.

B rows, F numbers of all pasts, I channels, P columns of the past, T positions.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from nightscribe.model.kv_cache import KVCache

PastShapes = tuple[tuple[int, int], ...]  # channels and columns of the past of each convolution


def views_of(pasts_BF: Tensor, shapes: PastShapes) -> list[Tensor]:
    """The past of each convolution, BIP, in the same memory."""
    parts = pasts_BF.split([channels * columns for channels, columns in shapes], dim=1)
    return [part.view(len(pasts_BF), *shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(slots=True)
class MimiState:
    """State of every row between two calls; updated in place.

    The pasts of all convolutions are one tensor, so that they are copied at once: those of SEANet
    in the order in which audio passes through them, then that of the downsampling.
    """

    pasts_BF: Tensor
    past_shapes: PastShapes
    cache: KVCache
    piece_samples: int

    @property
    def pasts(self) -> list[Tensor]:
        return views_of(self.pasts_BF, self.past_shapes)

    def rows(self, rows: Tensor) -> Self:
        """A copy of some rows."""
        pasts_BF, cache = self.pasts_BF.index_select(0, rows), self.cache.rows(rows)
        return type(self)(pasts_BF, self.past_shapes, cache, self.piece_samples)

    def row(self, row: int) -> Self:
        """One row, in the same memory."""
        pasts_BF, cache = self.pasts_BF[row : row + 1], self.cache.row(row)
        return type(self)(pasts_BF, self.past_shapes, cache, self.piece_samples)

    def reset(self, fresh_B: Tensor) -> None:
        """Begin a new stream in some rows."""
        self.pasts_BF.masked_fill_(fresh_B[:, None], 0)
        self.cache.reset(fresh_B)

    def put_new(self, rows: Tensor, other: Self, num_positions: int) -> None:
        """Overwrite some rows by what they were, carried on by so many positions.

        Of the rings only what is new is copied.
        """
        self.pasts_BF.index_copy_(0, rows, other.pasts_BF)
        capacity = self.cache.capacity
        new = torch.arange(-num_positions, 0, device=rows.device)
        entries_BT = (other.cache.next_positions_B[:, None] + new) % capacity
        theirs = torch.arange(len(rows), device=rows.device)[:, None]
        pairs = ((self.cache.keys, other.cache.keys), (self.cache.values, other.cache.values))
        for mine, others in pairs:
            mine_BCLHE = mine.data_LBHCE.permute(1, 3, 0, 2, 4)
            new_BTLHE = others.data_LBHCE.permute(1, 3, 0, 2, 4)[theirs, entries_BT]
            mine_BCLHE.index_put_((rows[:, None], entries_BT), new_BTLHE)
        self.cache.next_positions_B.index_copy_(0, rows, other.cache.next_positions_B)

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows by those of another state, in its order."""
        self.pasts_BF.index_copy_(0, rows, other.pasts_BF)
        self.cache.put(rows, other.cache)
