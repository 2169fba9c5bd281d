"""GGUF files: a header of values and tensor infos, then the tensors' blocks.

Only the header is kept; a tensor's blocks are read and dequantized when it is asked for.
"""

import struct
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.gguf_blocks import BLOCK_KINDS, BlockKind, dequantized
from nightscribe.model.checkpoints.stored import Shape, StoredTensor

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_DEPTH = 8  # of arrays in arrays
STRING, ARRAY = 8, 9
SCALAR_FORMATS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


@dataclass(frozen=True, slots=True)
class _Info:
    """Where a tensor's blocks are, counted from the end of the header."""

    name: str
    shape: Shape
    kind: BlockKind
    offset_bytes: int

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) // self.kind.num_values * self.kind.size_bytes


def open_gguf(path: Path) -> dict[str, StoredTensor]:
    """What the header lists; raises if the file is cut short or a tensor's kind is unknown."""
    try:
        with path.open("rb") as file:
            data_start, infos = _Header(path, file).read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from None
    size_bytes = path.stat().st_size
    for info in infos:
        if data_start + info.offset_bytes + info.size_bytes > size_bytes:
            raise CheckpointError(
                f"{path} is cut short: tensor {info.name!r} ends past its {size_bytes} bytes"
            )
    return {info.name: _stored(path, info, data_start) for info in infos}


def _stored(path: Path, info: _Info, data_start: int) -> StoredTensor:
    read_rows = partial(_read_rows, path, info, data_start + info.offset_bytes)
    return StoredTensor(info.name, path, info.shape, True, read_rows)


def _read_rows(path: Path, info: _Info, start_bytes: int, first: int, end: int) -> Tensor:
    row_bytes = info.size_bytes // info.shape[0]
    blocks = np.fromfile(
        path, np.uint8, count=(end - first) * row_bytes, offset=start_bytes + first * row_bytes
    )
    return dequantized(blocks, info.kind).view(end - first, *info.shape[1:])


class _Header:
    """Reads a header value by value; anything that cannot be is one error."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size_bytes = path.stat().st_size

    def read(self) -> tuple[int, list[_Info]]:
        """Where the tensors' blocks begin, and what they are."""
        if self._file.read(4) != MAGIC:
            raise CheckpointError(f"{self._path} is not a GGUF file")
        version = self._scalar("I")
        if version not in VERSIONS:
            raise CheckpointError(f"{self._path} is GGUF version {version}, expected 2 or 3")
        num_tensors, num_values = self._scalar("Q"), self._scalar("Q")
        alignment = DEFAULT_ALIGNMENT
        for _ in range(num_values):
            key, value = self._text(), self._value(self._scalar("I"))
            alignment = self._alignment(value) if key == ALIGNMENT_KEY else alignment
        infos = [self._info() for _ in range(num_tensors)]
        return -(-self._file.tell() // alignment) * alignment, infos

    def _info(self) -> _Info:
        name, num_dims = self._text(), self._scalar("I")
        if num_dims > MAX_DIMS:
            raise self._broken()
        # The first dimension of GGUF is the last of ours.
        shape = tuple(self._scalar("Q") for _ in range(num_dims))[::-1]
        kind_id, offset_bytes = self._scalar("I"), self._scalar("Q")
        if kind_id not in BLOCK_KINDS:
            known = ", ".join(kind.name for kind in BLOCK_KINDS.values())
            raise CheckpointError(
                f"{self._path}: tensor {name!r} is of GGUF type {kind_id}; understood are {known}"
            )
        kind = BLOCK_KINDS[kind_id]
        if not shape or shape[-1] % kind.num_values:
            raise CheckpointError(
                f"{self._path}: tensor {name!r} of shape {list(shape)} does not fill "
                f"{kind.name} blocks of {kind.num_values}"
            )
        return _Info(name, shape, kind, offset_bytes)

    def _alignment(self, value: Any) -> int:
        if not isinstance(value, int) or value < 1:
            raise self._broken()
        return value

    def _value(self, type_id: int, depth: int = 0) -> Any:
        if type_id == STRING:
            return self._text()
        if type_id == ARRAY and depth < MAX_DEPTH:
            item_type, num_items = self._scalar("I"), self._scalar("Q")
            return [self._value(item_type, depth + 1) for _ in range(num_items)]
        if type_id not in SCALAR_FORMATS:
            raise self._broken()
        return self._scalar(SCALAR_FORMATS[type_id])

    def _text(self) -> str:
        return self._bytes(self._scalar("Q")).decode("utf-8", errors="replace")

    def _scalar(self, form: str) -> Any:
        form = f"<{form}"
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, size_bytes: int) -> bytes:
        if size_bytes > self._size_bytes - self._file.tell():
            raise self._broken()
        return self._file.read(size_bytes)

    def _broken(self) -> CheckpointError:
        return CheckpointError(f"{self._path} has a broken or cut GGUF header")
