"""How a ring keeps its keys and values: as they come, or in eight bits with a scale for each.

An entry of a head, a vector, is divided by a scale of its own, so that its largest number is the
largest that eight bits hold. The scale comes back outside the products of attention.

Eight bits turn a difference in the last bit of a product into one of a whole step: as in bf16, a
stream is heard alike to the bit only over as many slots.

L layers, B rows, T new positions, H heads, C ring entries, E width of a head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

EIGHT_BITS = (torch.int8, torch.float8_e4m3fn)
SCALE_DTYPE = torch.bfloat16  # as wide a range as what it scales
_SMALLEST_SCALE = torch.finfo(SCALE_DTYPE).tiny


class Entries(NamedTuple):
    """The keys or the values of one layer: numbers, times a scale per entry and head if given."""

    numbers_BHCE: Tensor
    scales_BHC: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self.numbers_BHCE.dtype

    def cut(self, rows: slice, num_entries: int) -> "Entries":
        """The first entries of some rows."""
        scales = None if self.scales_BHC is None else self.scales_BHC[rows, :, :num_entries]
        return Entries(self.numbers_BHCE[rows, :, :num_entries], scales)

    def plain(self, dtype: torch.dtype) -> Tensor:
        """What is meant, scales included, in eight bits no longer."""
        if self.scales_BHC is None:
            return self.numbers_BHCE
        return (self.numbers_BHCE.float() * self.scales_BHC.float()[..., None]).to(dtype)


def in_eight_bits(x_BTHE: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Numbers and scales of the vectors of each position and head."""
    is_whole = dtype == torch.int8
    limit = 127.0 if is_whole else torch.finfo(dtype).max
    x_BTHE = x_BTHE.float()
    scales_BTH = x_BTHE.abs().amax(dim=-1) / limit
    scales_BTH = scales_BTH.clamp_min(_SMALLEST_SCALE).to(SCALE_DTYPE)
    # The rounding of the scale may leave the largest number a hair beyond the limit.
    ratios_BTHE = (x_BTHE / scales_BTH.float()[..., None]).clamp(-limit, limit)
    return (ratios_BTHE.round() if is_whole else ratios_BTHE).to(dtype), scales_BTH


@dataclass(frozen=True, slots=True)
class Kept:
    """The keys or the values of all layers."""

    numbers_LBHCE: Tensor
    scales_LBHC: Tensor | None = None

    @classmethod
    def empty(cls, shape_LBHCE: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Self:
        # Zeros, not whatever memory held: a hidden NaN would still spoil a weighted sum.
        numbers = torch.zeros(shape_LBHCE, device=device, dtype=dtype)
        if dtype not in EIGHT_BITS:
            return cls(numbers)
        return cls(numbers, torch.zeros(shape_LBHCE[:-1], device=device, dtype=SCALE_DTYPE))

    @property
    def size_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        yield self.numbers_LBHCE
        if self.scales_LBHC is not None:
            yield self.scales_LBHC

    def first(self, num_rows: int) -> Self:
        """The same memory, for the first rows only."""
        return type(self)(*(tensor[:, :num_rows] for tensor in self.tensors()))

    def rows(self, rows: Tensor) -> Self:
        """A copy of some rows."""
        return type(self)(*(tensor.index_select(1, rows) for tensor in self.tensors()))

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows by those of another, in its order."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            _movable(mine).index_copy_(1, rows, _movable(theirs))

    def layer(self, layer: int) -> Entries:
        scales = None if self.scales_LBHC is None else self.scales_LBHC[layer]
        return Entries(self.numbers_LBHCE[layer], scales)

    def write(self, layer: int, places: tuple[Tensor, Tensor], x_BTHE: Tensor) -> Entries:
        """Keep a layer's new vectors in these rows and entries; returns all it keeps."""
        numbers_BHCE, scales_BHC = entries = self.layer(layer)
        # index_put, not scatter: on CPU a bf16 scatter is three orders of magnitude slower.
        if scales_BHC is None:
            numbers_BHCE.transpose(1, 2).index_put_(places, x_BTHE.to(numbers_BHCE.dtype))
            return entries
        new_BTHE, scales_BTH = in_eight_bits(x_BTHE, numbers_BHCE.dtype)
        scales_BHC.transpose(1, 2).index_put_(places, scales_BTH)
        _movable(numbers_BHCE).transpose(1, 2).index_put_(places, _movable(new_BTHE))
        return entries


def _movable(numbers: Tensor) -> Tensor:
    """Numbers that torch can copy by index: of eight bits it moves integers alone everywhere."""
    return numbers.view(torch.int8) if numbers.dtype in EIGHT_BITS else numbers
