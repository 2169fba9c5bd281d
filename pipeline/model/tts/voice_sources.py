"""What rows attend to across: the keys and values of every voice in use, once for all its rows.

A step reads them from tables that stay where they are, so that a captured step finds them. Rows
with the same voices are multiplied together; where some voices have fewer rows than others, their
places are filled up with rows whose result nobody reads.

L layers, X sources (voices in use), R rows, M rows of a source, H heads, C positions of a source,
E head dimension, D width.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.cuda_graphs import SourceShape, Upload


class Sources(NamedTuple):
    """What the rows of a step attend to."""

    keys_LXHCE: Tensor
    values_LXHCE: Tensor
    hidden_XC: Tensor | None  # beyond the end of the shorter sources
    rows_N: Tensor  # X x M rows, source by source
    places_R: Tensor  # where in `rows_N` each row is

    @property
    def rows_per_source(self) -> int:
        return len(self.rows_N) // self.keys_LXHCE.shape[1]


# Keys and values of one source in every layer, LHCE.
SourceKV = tuple[Tensor, Tensor]


class SourceName(NamedTuple):
    """Voices, and how many vectors each place of the source has."""

    voices: Sequence[Tensor]
    num_vectors: int

    def is_same(self, other: "SourceName") -> bool:
        """By the very tensors: a name holds them, so that no other voice comes to their address."""
        return (
            self.num_vectors == other.num_vectors
            and len(self.voices) == len(other.voices)
            and all(map(operator.is_, self.voices, other.voices))
        )


@dataclass(slots=True)
class VoiceSources:
    """The sources in use and the rows that attend to each."""

    num_rows: int
    device: torch.device
    upload: Upload = torch.from_numpy
    keys_LXHCE: Tensor | None = None
    values_LXHCE: Tensor | None = None
    _lengths: list[int] = field(default_factory=list)
    _rows: list[set[int]] = field(default_factory=list)
    _names: list[SourceName] = field(default_factory=list)
    _tables: dict[SourceShape, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _is_new: bool = True  # what is in the tables is not what rows attend to now
    _hidden_XC: Tensor | None = None

    @property
    def layout(self) -> tuple[int, ...]:
        """Changes when keys and values have moved to other memory, or are masked otherwise."""
        if self.keys_LXHCE is None:
            return ()
        return *self.keys_LXHCE.shape, self._hidden_XC is not None

    def attend(self, row: int, name: SourceName, make: Callable[[], SourceKV]) -> None:
        """Let a row attend to a source, which is made if it is not there."""
        numbers = (number for number, one in enumerate(self._names) if one.is_same(name))
        number = next(numbers, len(self._names))
        if number == len(self._names):
            self._add(name, *make())
        self._rows[number].add(row)
        for unused in reversed(range(len(self._rows))):
            if not self._rows[unused]:
                self._forget(unused)
        self._is_new = True

    def release(self, rows: Sequence[int]) -> None:
        """Let some rows attend to nothing; what they attended to stays for who comes next."""
        for of_source in self._rows:
            of_source -= set(rows)
        self._is_new = True

    def shape(self, *, is_rounded: bool) -> SourceShape | None:
        """What the next step needs; rounded up to one of few shapes. None: nobody attends."""
        if not any(self._rows):
            return None
        num_sources, most = len(self._rows), max(map(len, self._rows))
        if not is_rounded:
            return SourceShape(num_sources, most)
        if num_sources == 1:
            return SourceShape(1, self.num_rows)
        return SourceShape(power_of_two(num_sources), min(power_of_two(most), self.num_rows))

    def prepare(self, shape: SourceShape | None) -> None:
        """Fill the tables of a shape with what rows attend to now."""
        if shape is None or not self._is_new:
            return
        if shape not in self._tables:
            self._tables[shape] = _empty_tables(shape, self.num_rows, self.device)
        self._fill(shape)
        self._is_new = False

    def tables(self, shape: SourceShape | None) -> Sources | None:
        """What a step of this shape reads."""
        if shape is None or self.keys_LXHCE is None or self.values_LXHCE is None:
            return None
        first = slice(shape.num_sources)
        hidden_XC = None if self._hidden_XC is None else self._hidden_XC[first]
        keys, values = self.keys_LXHCE[:, first], self.values_LXHCE[:, first]
        return Sources(keys, values, hidden_XC, *self._tables[shape])

    def _fill(self, shape: SourceShape) -> None:
        rows_XM = np.zeros(shape, np.int64)
        places_R = np.zeros(self.num_rows, np.int64)
        for number, rows in enumerate(self._rows):
            ordered = sorted(rows)
            rows_XM[number, : len(ordered)] = ordered
            places_R[ordered] = number * shape.rows_per_source + np.arange(len(ordered))
        rows_table, places_table = self._tables[shape]
        rows_table.copy_(self.upload(rows_XM.reshape(-1)))
        places_table.copy_(self.upload(places_R))

    def _add(self, name: SourceName, keys_LHCE: Tensor, values_LHCE: Tensor) -> None:
        number, length = len(self._names), keys_LHCE.shape[2]
        self.keys_LXHCE = _with_room(self.keys_LXHCE, number, keys_LHCE)
        self.values_LXHCE = _with_room(self.values_LXHCE, number, values_LHCE)
        self.keys_LXHCE[:, number, :, :length] = keys_LHCE
        self.values_LXHCE[:, number, :, :length] = values_LHCE
        self._names.append(name)
        self._lengths.append(length)
        self._rows.append(set())
        self._hide()

    def _forget(self, number: int) -> None:
        """The last source takes its place, so that those in use are together."""
        last = len(self._names) - 1
        if number != last:
            for table in (self.keys_LXHCE, self.values_LXHCE):
                assert table is not None
                table[:, number] = table[:, last]
        self._names[number] = self._names[last]
        self._lengths[number] = self._lengths[last]
        self._rows[number] = self._rows[last]
        for of_source in (self._names, self._lengths, self._rows):
            of_source.pop()
        self._hide()

    def _hide(self) -> None:
        """Where voices have different lengths, hide what is beyond the end of each."""
        assert self.keys_LXHCE is not None
        _, num_places, _, longest, _ = self.keys_LXHCE.shape
        if self._hidden_XC is None and set(self._lengths) <= {longest}:
            return
        hidden_XC = np.zeros((num_places, longest), np.bool_)
        for number, length in enumerate(self._lengths):
            hidden_XC[number, length:] = True
        if self._hidden_XC is None or self._hidden_XC.shape != hidden_XC.shape:
            self._hidden_XC = torch.zeros(hidden_XC.shape, dtype=torch.bool, device=self.device)
        self._hidden_XC.copy_(self.upload(hidden_XC))


def _empty_tables(shape: SourceShape, num_rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    num_places = shape.num_sources * shape.rows_per_source
    return (
        torch.zeros(num_places, dtype=torch.int64, device=device),
        torch.zeros(num_rows, dtype=torch.int64, device=device),
    )


def power_of_two(number: int) -> int:
    """The number, or the next power of two above it."""
    return 1 << (number - 1).bit_length()


def _with_room(table_LXHCE: Tensor | None, number: int, like_LHCE: Tensor) -> Tensor:
    """The table with room for one more source of this length, at least."""
    layers, heads, length, dim = like_LHCE.shape
    if table_LXHCE is None:
        return like_LHCE.new_zeros(layers, 1, heads, length, dim)
    _, num_places, _, longest, _ = table_LXHCE.shape
    if number < num_places and length <= longest:
        return table_LXHCE
    places = power_of_two(max(number + 1, num_places))
    larger = like_LHCE.new_zeros(layers, places, heads, max(length, longest), dim)
    larger[:, :num_places, :, :longest] = table_LXHCE
    return larger
