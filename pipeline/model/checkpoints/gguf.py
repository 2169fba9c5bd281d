"""GGUF files: a header of values and tensor infos, then the tensors' blocks.

Only the header is kept in memory; a tensor's blocks are read and dequantized on demand. A block
holds a fixed number of neighbours of one row: small integers, with the scales that they share.

N blocks, S sub-blocks of a super-block, V values of a (sub-)block.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.model.checkpoints.stored_tensors import Shape, StoredTensor

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
SUPER_BLOCK = 256  # values of a "K" block, in sub-blocks with small scales of their own


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """One number format: values per block and bytes per block."""

    name: str
    num_values: int
    size_bytes: int
    dequantize: Callable[[Tensor], Tensor]  # N blocks of bytes to values NV


def dequantized(data: np.ndarray, block_format: BlockFormat) -> Tensor:
    """All values of these blocks, concatenated; plain formats keep their type."""
    return block_format.dequantize(
        torch.from_numpy(data).view(-1, block_format.size_bytes)
    ).flatten()


def _plain(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda blocks: blocks.view(dtype)


def _half(blocks: Tensor, place: int) -> Tensor:
    """The fp16 number at a byte of every block, as a column."""
    return blocks[:, place : place + 2].contiguous().view(torch.float16).float()


def _nibbles(bytes_NB: Tensor) -> Tensor:
    """All low halves of the bytes, then all high ones."""
    return torch.cat((bytes_NB & 0xF, bytes_NB >> 4), dim=-1)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).float() + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks, 0) * (values.float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0) * values.float() + _half(blocks, 2)


def _fifth_bits(bytes_N4: Tensor) -> Tensor:
    """32 bits, one per value, shifted to bit 4 of each."""
    places = torch.arange(8, dtype=torch.uint8)
    return ((bytes_N4[..., None] >> places) & 1).flatten(1) << 4


def _q4_k(blocks: Tensor) -> Tensor:
    scales_NS, mins_NS = _scales_and_mins(blocks[:, 4:16])
    values_NSV = _k_nibbles(blocks[:, 16:])
    return _scaled_k(blocks, scales_NS, mins_NS, values_NSV)


def _q5_k(blocks: Tensor) -> Tensor:
    scales_NS, mins_NS = _scales_and_mins(blocks[:, 4:16])
    # Bit s of byte v is the fifth bit of value v of sub-block s.
    places_S1 = torch.arange(8, dtype=torch.uint8)[:, None]
    fifth_NSV = ((blocks[:, None, 16:48] >> places_S1) & 1) << 4
    return _scaled_k(blocks, scales_NS, mins_NS, _k_nibbles(blocks[:, 48:]) | fifth_NSV)


def _scaled_k(blocks: Tensor, scales_NS: Tensor, mins_NS: Tensor, values_NSV: Tensor) -> Tensor:
    scales_NS1 = (_half(blocks, 0) * scales_NS.float())[..., None]
    mins_NS1 = (_half(blocks, 2) * mins_NS.float())[..., None]
    return (scales_NS1 * values_NSV.float() - mins_NS1).flatten(1)


def _k_nibbles(bytes_NB: Tensor) -> Tensor:
    """Eight sub-blocks of 32: each run of 32 bytes holds one in its low halves, then one high."""
    runs = bytes_NB.view(-1, 4, 1, 32)
    return torch.cat((runs & 0xF, runs >> 4), dim=2).flatten(1, 2)


def _scales_and_mins(bytes_N12: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minimums of six bits each, the last four of each in two bytes."""
    scales_N4, mins_N4, rest_N4 = bytes_N12.split(4, dim=1)
    scales = torch.cat((scales_N4 & 0x3F, (rest_N4 & 0xF) | ((scales_N4 >> 6) << 4)), dim=1)
    mins = torch.cat((mins_N4 & 0x3F, (rest_N4 >> 4) | ((mins_N4 >> 6) << 4)), dim=1)
    return scales, mins


def _q6_k(blocks: Tensor) -> Tensor:
    # Two halves of 128 values, each in four runs of 32 that share their bytes of high bits.
    low_N2HV = blocks[:, :128].view(-1, 2, 1, 64)
    low_N2RV = torch.cat((low_N2HV & 0xF, low_N2HV >> 4), dim=2).view(-1, 2, 4, 32)
    places_R1 = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    high_N2RV = ((blocks[:, 128:192].view(-1, 2, 1, 32) >> places_R1) & 3) << 4
    values_NSV = ((low_N2RV | high_N2RV).float() - 32).view(-1, 16, 16)
    scales_NS1 = blocks[:, 192:208].view(torch.int8).float()[..., None]
    return (_half(blocks, 208)[..., None] * scales_NS1 * values_NSV).flatten(1)


BLOCK_FORMATS = {
    0: BlockFormat("F32", 1, 4, _plain(torch.float32)),
    1: BlockFormat("F16", 1, 2, _plain(torch.float16)),
    2: BlockFormat("Q4_0", 32, 18, _q4_0),
    3: BlockFormat("Q4_1", 32, 20, _q4_1),
    6: BlockFormat("Q5_0", 32, 22, _q5_0),
    7: BlockFormat("Q5_1", 32, 24, _q5_1),
    8: BlockFormat("Q8_0", 32, 34, _q8_0),
    12: BlockFormat("Q4_K", SUPER_BLOCK, 144, _q4_k),
    13: BlockFormat("Q5_K", SUPER_BLOCK, 176, _q5_k),
    14: BlockFormat("Q6_K", SUPER_BLOCK, 210, _q6_k),
    30: BlockFormat("BF16", 1, 2, _plain(torch.bfloat16)),
}


@dataclass(frozen=True, slots=True)
class _Info:
    """A tensor's blocks; the offset counts from the end of the header."""

    name: str
    shape: Shape
    block_format: BlockFormat
    offset_bytes: int

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) // self.block_format.num_values * self.block_format.size_bytes


def open_gguf(path: Path) -> dict[str, StoredTensor]:
    """What the header lists; raises if the file is truncated or a tensor's format is unknown."""
    try:
        with path.open("rb") as file:
            data_start, infos = _Header(path, file).read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from None
    size_bytes = path.stat().st_size
    for info in infos:
        if data_start + info.offset_bytes + info.size_bytes > size_bytes:
            raise CheckpointError(
                f"{path} is truncated: tensor {info.name!r} ends past its {size_bytes} bytes"
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
    return dequantized(blocks, info.block_format).view(end - first, *info.shape[1:])


class _Header:
    """Reads a header value by value; any invalid value raises the same error."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size_bytes = path.stat().st_size

    def read(self) -> tuple[int, list[_Info]]:
        """Where the tensors' blocks begin, and the tensors."""
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
        format_id, offset_bytes = self._scalar("I"), self._scalar("Q")
        if format_id not in BLOCK_FORMATS:
            known = ", ".join(one.name for one in BLOCK_FORMATS.values())
            raise CheckpointError(
                f"{self._path}: tensor {name!r} has GGUF type {format_id}; supported are {known}"
            )
        block_format = BLOCK_FORMATS[format_id]
        if not shape or shape[-1] % block_format.num_values:
            raise CheckpointError(
                f"{self._path}: tensor {name!r} of shape {list(shape)} does not fill "
                f"{block_format.name} blocks of {block_format.num_values}"
            )
        return _Info(name, shape, block_format, offset_bytes)

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
        return CheckpointError(f"{self._path} has a broken or truncated GGUF header")
