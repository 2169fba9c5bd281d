"""Causal self-attention over the last `context` positions, with or without a ring of past keys.

B rows (slots), T new positions, C ring entries, D width, H heads, E width of a head, L layers,
X queries and keys.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from nightscribe.model.attention_backends import Sight, mix
from nightscribe.model.kv_cache import Entries, Kept


def rotation(positions_BT: Tensor, head_dim: int, max_period: float) -> Tensor:
    """Rotary embedding of some positions: BT11E/2 complex numbers, the turn of each pair.

    Angles in fp32, by the reference's own formula: at position 450,000 another would differ.
    """
    pairs = torch.arange(head_dim // 2, device=positions_BT.device, dtype=torch.float32)
    frequencies = torch.exp(pairs * (-math.log(max_period) * 2 / head_dim))
    angles = positions_BT.float()[:, :, None, None, None] * frequencies
    return torch.complex(angles.cos(), angles.sin())


def rotate(x_BTXHE: Tensor, turns: Tensor) -> Tensor:
    """Turn each pair (2j, 2j + 1) of a head's dimensions, in fp32, which is turned in place."""
    wide_BTXHE = x_BTXHE.float()
    torch.view_as_complex(wide_BTXHE.view(*wide_BTXHE.shape[:-1], -1, 2)).mul_(turns)
    return wide_BTXHE.to(x_BTXHE.dtype)


@dataclass(frozen=True, slots=True)
class Window:
    """Which past positions a query sees.

    Queries of one block of `block` positions share their oldest key, the one `context - 1` before
    the block's end: what a ring of `context` keys leaves visible when it is written block by block.
    """

    context: int
    block: int = 1

    def visible_BTC(self, queries_BT: Tensor, keys_BC: Tensor) -> Tensor:
        queries_BT1, keys_B1C = queries_BT[:, :, None], keys_BC[:, None]
        block_ends_BT1 = queries_BT1 // self.block * self.block + self.block - 1
        oldest_BT1 = (block_ends_BT1 - self.context + 1).clamp_min(0)
        return (keys_B1C <= queries_BT1) & (keys_B1C >= oldest_BT1)


# Promises on how many entries of the ring hold something: of no row more than so many, or row by
# row; None promises nothing.
Reach = int | tuple[int, ...] | None


class RingPlaces(NamedTuple):
    """Where one call writes in the ring, and the position each of its entries then holds."""

    writes: tuple[Tensor, Tensor]  # rows and entries
    positions_BT: Tensor
    held_positions_BC: Tensor  # negative: nothing of this stream

    def sight(self, window: Window, num_heads: int, reach: Reach = None) -> Sight:
        """What the queries of these places see of the ring, nobody's beyond `reach`."""
        longest = max(reach) if isinstance(reach, tuple) else reach
        held_BC = self.held_positions_BC[:, :longest]
        return Sight(
            window.visible_BTC(self.positions_BT, held_BC),
            reach if isinstance(reach, tuple) else (),
            self.positions_BT[:, -1].contiguous() if window.block == 1 else None,
            window.context,
            num_heads,
        )


@dataclass(slots=True)
class RingCache:
    """Keys and values of the last positions of every row; each row has its own position.

    Entry `p % capacity` holds position p. What a previous stream left behind is never wiped:
    counted from the new stream's position it is older than its beginning, so no query sees it.
    """

    keys: Kept
    values: Kept
    next_positions_B: Tensor

    @classmethod
    def empty(cls, shape_LBHCE: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Self:
        keys, values = (Kept.empty(shape_LBHCE, device, dtype) for _ in range(2))
        positions = torch.zeros(shape_LBHCE[1], device=device, dtype=torch.int64)
        return cls(keys, values, positions)

    @property
    def capacity(self) -> int:
        return self.keys.numbers_LBHCE.shape[3]

    def first(self, num_rows: int) -> Self:
        """The same memory, for the first rows only."""
        positions = self.next_positions_B[:num_rows]
        return type(self)(self.keys.first(num_rows), self.values.first(num_rows), positions)

    def rows(self, rows: Tensor) -> Self:
        """A copy of some rows."""
        positions = self.next_positions_B.index_select(0, rows)
        return type(self)(self.keys.rows(rows), self.values.rows(rows), positions)

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows by those of another cache, in its order."""
        self.keys.put(rows, other.keys)
        self.values.put(rows, other.values)
        self.next_positions_B.index_copy_(0, rows, other.next_positions_B)

    def restart(self, fresh_B: Tensor) -> None:
        self.next_positions_B.masked_fill_(fresh_B, 0)

    def advance(self, num_positions: int) -> RingPlaces:
        """Move every row on and say where its new positions stand."""
        new = torch.arange(num_positions, device=self.next_positions_B.device)
        positions_BT = self.next_positions_B[:, None] + new
        entries = torch.arange(self.capacity, device=new.device)
        newest_B1 = positions_BT[:, -1:]
        held_BC = newest_B1 - (newest_B1 - entries) % self.capacity
        rows_B1 = torch.arange(len(positions_BT), device=new.device)[:, None]
        self.next_positions_B += num_positions
        return RingPlaces((rows_B1, positions_BT % self.capacity), positions_BT, held_BC)

    def extend(
        self, layer: int, keys_BTHE: Tensor, values_BTHE: Tensor, places: RingPlaces
    ) -> tuple[Entries, Entries]:
        """Write one layer's new keys and values; returns all the ring holds of it."""
        return (
            self.keys.write(layer, places.writes, keys_BTHE),
            self.values.write(layer, places.writes, values_BTHE),
        )


class SelfAttention(nn.Module):
    """Multi-head attention without biases."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project_in = nn.Linear(dim, 3 * dim, bias=False)
        self.project_out = nn.Linear(dim, dim, bias=False)

    def project(self, x_BTD: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, values, each BTHE."""
        qkv_BTXHE = self.project_in(x_BTD).view(*x_BTD.shape[:2], 3, self.num_heads, -1)
        queries, keys = rotate(qkv_BTXHE[:, :, :2], turns).unbind(2)
        return queries, keys, qkv_BTXHE[:, :, 2]

    def attend(self, queries_BTHE: Tensor, keys: Entries, values: Entries, sight: Sight) -> Tensor:
        """Mix the visible values and project them back to BTD."""
        mixed_BHTE = mix(queries_BTHE.transpose(1, 2), keys, values, sight)
        return self.project_out(mixed_BHTE.transpose(1, 2).flatten(2))
