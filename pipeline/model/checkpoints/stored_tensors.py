"""Tensors as a checkpoint's files store them: headers first, data read one tensor at a time."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from nightscribe.model.checkpoints.settings import CheckpointError

Shape = tuple[int, ...]
# Reads one tensor of the native layout, dequantized, split or joined as needed.
Read = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of one file."""

    name: str
    path: Path
    shape: Shape
    is_float: bool
    read_rows: Callable[[int, int], Tensor]

    def read(self) -> Tensor:
        return self.read_rows(0, self.shape[0])


class StoredTensors:
    """The tensors of a set of files. A layout takes each by name and shape; none may be left."""

    def __init__(self, tensors: Mapping[str, StoredTensor], path: Path) -> None:
        self._tensors = tensors
        self.path = path
        self._left = dict.fromkeys(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> Shape:
        return self._found(name, "any shape").shape

    def renamed(self, rename: Callable[[str], str]) -> Self:
        """The same tensors under the names of a layout."""
        tensors: dict[str, StoredTensor] = {}
        for name, stored in self._tensors.items():
            first = tensors.setdefault(rename(name), stored)
            if first is not stored:
                raise CheckpointError(
                    f"{self.path}: {first.name!r} and {name!r} are the same tensor"
                )
        return type(self)(tensors, self.path)

    def those_with(self, prefix: str) -> Self:
        """The tensors whose names begin so, as a set of their own."""
        found = {name: one for name, one in self._tensors.items() if name.startswith(prefix)}
        return type(self)(found, self.path)

    def take(self, name: str, shape: Shape) -> StoredTensor:
        """A tensor of floating-point numbers of this shape."""
        stored = self.take_raw(name, shape)
        if not stored.is_float:
            raise CheckpointError(
                f"{stored.path}: {stored.name!r} holds integers, not floating-point numbers"
            )
        return stored

    def take_raw(self, name: str, shape: Shape) -> StoredTensor:
        """A tensor of this shape, of any dtype."""
        stored = self._found(name, f"shape {list(shape)}")
        if stored.shape != shape:
            raise CheckpointError(
                f"{stored.path}: tensor {stored.name!r} has shape {list(stored.shape)}, "
                f"expected {list(shape)}"
            )
        self._left.pop(name, None)
        return stored

    def refuse_rest(self, unused: re.Pattern[str] | None = None) -> None:
        """Raise if a tensor was not taken, except those known to be unused."""
        for name in self._left:
            if unused is None or not unused.match(name):
                stored = self._tensors[name]
                raise CheckpointError(
                    f"{stored.path}: tensor {stored.name!r} of shape {list(stored.shape)} "
                    f"does not belong to the model of this config"
                )

    def _found(self, name: str, expected: str) -> StoredTensor:
        if name not in self._tensors:
            raise CheckpointError(f"{self.path} has no tensor {name!r} of {expected}")
        return self._tensors[name]
