"""The KV cache: a ring of keys and values per slot, in the model's dtype or in 8 bits.

In 8 bits each vector (one entry of one head) has a scale of its own, so that its largest number is
the largest that 8 bits hold. The scale is applied outside the matrix products of attention.

8 bits turn a difference in the last bit of a product into one of a whole step. As in bf16, output
is identical to the bit only over the same number of slots.

L layers, B rows (slots), T new positions, H heads, C ring entries, E head dimension.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

EIGHT_BITS = (torch.int8, torch.float8_e4m3fn)
SCALE_DTYPE = torch.bfloat16  # as wide a range as what it scales
SMALLEST_SCALE = torch.finfo(SCALE_DTYPE).tiny

# Upper bounds on the ring entries that hold something: one for all rows, one for each row, or None.
# Entries beyond a bound are not read.
KVLengths = int | tuple[int, ...] | None


class LayerKV(NamedTuple):
    """The keys or the values of one layer, with a scale per entry and head if quantized."""

    data_BHCE: Tensor
    scales_BHC: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self.data_BHCE.dtype

    def first(self, rows: slice, num_entries: int) -> "LayerKV":
        """The first entries of some rows."""
        scales = None if self.scales_BHC is None else self.scales_BHC[rows, :, :num_entries]
        return LayerKV(self.data_BHCE[rows, :, :num_entries], scales)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The data with its scales applied; data without scales stays as it is."""
        if self.scales_BHC is None:
            return self.data_BHCE
        return (self.data_BHCE.float() * self.scales_BHC.float()[..., None]).to(dtype)


def limit_of(dtype: torch.dtype) -> float:
    """The largest number that 8 bits hold."""
    return 127.0 if dtype == torch.int8 else torch.finfo(dtype).max


def quantize(x_BTHE: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """8-bit data and the scale of each vector."""
    is_integer, limit = dtype == torch.int8, limit_of(dtype)
    x_BTHE = x_BTHE.float()
    scales_BTH = x_BTHE.abs().amax(dim=-1) / limit
    scales_BTH = scales_BTH.clamp_min(SMALLEST_SCALE).to(SCALE_DTYPE)
    # Rounding the scale may push the largest number slightly over the limit.
    ratios_BTHE = (x_BTHE / scales_BTH.float()[..., None]).clamp(-limit, limit)
    return (ratios_BTHE.round() if is_integer else ratios_BTHE).to(dtype), scales_BTH


@dataclass(frozen=True, slots=True)
class CacheTensors:
    """The keys or the values of all layers."""

    data_LBHCE: Tensor
    scales_LBHC: Tensor | None = None

    @classmethod
    def empty(cls, shape_LBHCE: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Self:
        # Zeros, not uninitialized memory: even a masked NaN would spoil a weighted sum.
        data = torch.zeros(shape_LBHCE, device=device, dtype=dtype)
        if dtype not in EIGHT_BITS:
            return cls(data)
        return cls(data, torch.zeros(shape_LBHCE[:-1], device=device, dtype=SCALE_DTYPE))

    @property
    def size_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        yield self.data_LBHCE
        if self.scales_LBHC is not None:
            yield self.scales_LBHC

    def first(self, num_rows: int) -> Self:
        """The same memory, for the first rows only."""
        return type(self)(*(tensor[:, :num_rows] for tensor in self.tensors()))

    def row(self, row: int) -> Self:
        """One row, in the same memory."""
        return type(self)(*(tensor[:, row : row + 1] for tensor in self.tensors()))

    def rows(self, rows: Tensor) -> Self:
        """A copy of some rows."""
        return type(self)(*(tensor.index_select(1, rows) for tensor in self.tensors()))

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows by those of another, in its order."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            _indexable(mine).index_copy_(1, rows, _indexable(theirs))

    def layer(self, layer: int) -> LayerKV:
        scales = None if self.scales_LBHC is None else self.scales_LBHC[layer]
        return LayerKV(self.data_LBHCE[layer], scales)

    def write(self, layer: int, where: tuple[Tensor, Tensor], x_BTHE: Tensor) -> LayerKV:
        """Write a layer's new vectors at these rows and entries; returns the whole layer."""
        data_BHCE, scales_BHC = whole = self.layer(layer)
        # index_put, not scatter: on a CPU a bf16 scatter is a thousand times slower.
        if scales_BHC is None:
            data_BHCE.transpose(1, 2).index_put_(where, x_BTHE.to(data_BHCE.dtype))
            return whole
        new_BTHE, scales_BTH = quantize(x_BTHE, data_BHCE.dtype)
        scales_BHC.transpose(1, 2).index_put_(where, scales_BTH)
        _indexable(data_BHCE).transpose(1, 2).index_put_(where, _indexable(new_BTHE))
        return whole


def _indexable(data: Tensor) -> Tensor:
    """A view that torch can copy by index on every device: of 8-bit types only int8 is."""
    return data.view(torch.int8) if data.dtype in EIGHT_BITS else data


@dataclass(frozen=True)  # without slots: cached properties need a dictionary
class RingPositions:
    """Where one call writes in the ring; what nobody reads is not computed."""

    positions_BT: Tensor
    capacity: int

    @cached_property
    def writes(self) -> tuple[Tensor, Tensor]:
        """Rows and entries."""
        rows_B1 = torch.arange(len(self.positions_BT), device=self.positions_BT.device)[:, None]
        return rows_B1, self.positions_BT % self.capacity

    @cached_property
    def entry_positions_BC(self) -> Tensor:
        """The position of each entry after this call; negative: nothing of this stream."""
        entries = torch.arange(self.capacity, device=self.positions_BT.device)
        newest_B1 = self.positions_BT[:, -1:]
        return newest_B1 - (newest_B1 - entries) % self.capacity


@dataclass(slots=True)
class KVCache:
    """Keys and values of the last positions of every row; each row has its own position.

    Entry `p % capacity` holds position p. Entries of a previous stream are never cleared: counted
    from the new stream's position they are before its beginning, so every query masks them.
    """

    keys: CacheTensors
    values: CacheTensors
    next_positions_B: Tensor

    @classmethod
    def empty(cls, shape_LBHCE: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Self:
        keys, values = (CacheTensors.empty(shape_LBHCE, device, dtype) for _ in range(2))
        positions = torch.zeros(shape_LBHCE[1], device=device, dtype=torch.int64)
        return cls(keys, values, positions)

    @property
    def capacity(self) -> int:
        return self.keys.data_LBHCE.shape[3]

    def first(self, num_rows: int) -> Self:
        """The same memory, for the first rows only."""
        positions = self.next_positions_B[:num_rows]
        return type(self)(self.keys.first(num_rows), self.values.first(num_rows), positions)

    def row(self, row: int) -> Self:
        """One row, in the same memory."""
        positions = self.next_positions_B[row : row + 1]
        return type(self)(self.keys.row(row), self.values.row(row), positions)

    def rows(self, rows: Tensor) -> Self:
        """A copy of some rows."""
        positions = self.next_positions_B.index_select(0, rows)
        return type(self)(self.keys.rows(rows), self.values.rows(rows), positions)

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows by those of another cache, in its order."""
        self.keys.put(rows, other.keys)
        self.values.put(rows, other.values)
        self.next_positions_B.index_copy_(0, rows, other.next_positions_B)

    def reset(self, fresh_B: Tensor) -> None:
        """Begin a new stream in some rows."""
        self.next_positions_B.masked_fill_(fresh_B, 0)

    def advance(self, num_positions: int) -> RingPositions:
        """Move every row on; returns where its new positions are in the ring."""
        if num_positions == 1:
            positions_BT = self.next_positions_B[:, None].clone()
        else:
            new = torch.arange(num_positions, device=self.next_positions_B.device)
            positions_BT = self.next_positions_B[:, None] + new
        self.next_positions_B += num_positions
        return RingPositions(positions_BT, self.capacity)

    def extend(
        self, layer: int, keys_BTHE: Tensor, values_BTHE: Tensor, ring: RingPositions
    ) -> tuple[LayerKV, LayerKV]:
        """Write one layer's new keys and values; returns the layer's whole ring."""
        return (
            self.keys.write(layer, ring.writes, keys_BTHE),
            self.values.write(layer, ring.writes, values_BTHE),
        )
