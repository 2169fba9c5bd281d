"""The number formats of GGUF files, back to fp32.

A block holds a fixed count of neighbours of one row: small integers, with the scales that they
share. N blocks, S sub-blocks of a super-block, V values of a (sub-)block.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SUPER_BLOCK = 256  # values of a "K" block, in sub-blocks with small scales of their own


@dataclass(frozen=True, slots=True)
class BlockKind:
    """One number format: how many values a block holds, in how many bytes."""

    name: str
    num_values: int
    size_bytes: int
    dequantize: Callable[[Tensor], Tensor]  # N blocks of bytes to values NV


def dequantized(data: np.ndarray, kind: BlockKind) -> Tensor:
    """All values of these blocks in a row; plain formats keep their type."""
    return kind.dequantize(torch.from_numpy(data).view(-1, kind.size_bytes)).flatten()


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
    """32 bits, one a value, in place 4 of each."""
    places = torch.arange(8, dtype=torch.uint8)
    return ((bytes_N4[..., None] >> places) & 1).flatten(1) << 4


def _q4_k(blocks: Tensor) -> Tensor:
    scales_NS, lows_NS = _scales_and_lows(blocks[:, 4:16])
    values_NSV = _k_nibbles(blocks[:, 16:])
    return _scaled_k(blocks, scales_NS, lows_NS, values_NSV)


def _q5_k(blocks: Tensor) -> Tensor:
    scales_NS, lows_NS = _scales_and_lows(blocks[:, 4:16])
    # Bit s of byte v is the fifth bit of value v of sub-block s.
    places_S1 = torch.arange(8, dtype=torch.uint8)[:, None]
    fifth_NSV = ((blocks[:, None, 16:48] >> places_S1) & 1) << 4
    return _scaled_k(blocks, scales_NS, lows_NS, _k_nibbles(blocks[:, 48:]) | fifth_NSV)


def _scaled_k(blocks: Tensor, scales_NS: Tensor, lows_NS: Tensor, values_NSV: Tensor) -> Tensor:
    scales_NS1 = (_half(blocks, 0) * scales_NS.float())[..., None]
    lows_NS1 = (_half(blocks, 2) * lows_NS.float())[..., None]
    return (scales_NS1 * values_NSV.float() - lows_NS1).flatten(1)


def _k_nibbles(bytes_NB: Tensor) -> Tensor:
    """Eight sub-blocks of 32: each run of 32 bytes holds one in its low halves, then one high."""
    runs = bytes_NB.view(-1, 4, 1, 32)
    return torch.cat((runs & 0xF, runs >> 4), dim=2).flatten(1, 2)


def _scales_and_lows(bytes_N12: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight lows of six bits each, the last four of each split over two bytes."""
    scales_N4, lows_N4, rest_N4 = bytes_N12.split(4, dim=1)
    scales = torch.cat((scales_N4 & 0x3F, (rest_N4 & 0xF) | ((scales_N4 >> 6) << 4)), dim=1)
    lows = torch.cat((lows_N4 & 0x3F, (rest_N4 >> 4) | ((lows_N4 >> 6) << 4)), dim=1)
    return scales, lows


def _q6_k(blocks: Tensor) -> Tensor:
    # Two halves of 128 values, each in four runs of 32 that share their bytes of high bits.
    low_N2HV = blocks[:, :128].view(-1, 2, 1, 64)
    low_N2RV = torch.cat((low_N2HV & 0xF, low_N2HV >> 4), dim=2).view(-1, 2, 4, 32)
    places_R1 = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    high_N2RV = ((blocks[:, 128:192].view(-1, 2, 1, 32) >> places_R1) & 3) << 4
    values_NSV = ((low_N2RV | high_N2RV).float() - 32).view(-1, 16, 16)
    scales_NS1 = blocks[:, 192:208].view(torch.int8).float()[..., None]
    return (_half(blocks, 208)[..., None] * scales_NS1 * values_NSV).flatten(1)


BLOCK_KINDS = {
    0: BlockKind("F32", 1, 4, _plain(torch.float32)),
    1: BlockKind("F16", 1, 2, _plain(torch.float16)),
    2: BlockKind("Q4_0", 32, 18, _q4_0),
    3: BlockKind("Q4_1", 32, 20, _q4_1),
    6: BlockKind("Q5_0", 32, 22, _q5_0),
    7: BlockKind("Q5_1", 32, 24, _q5_1),
    8: BlockKind("Q8_0", 32, 34, _q8_0),
    12: BlockKind("Q4_K", SUPER_BLOCK, 144, _q4_k),
    13: BlockKind("Q5_K", SUPER_BLOCK, 176, _q5_k),
    14: BlockKind("Q6_K", SUPER_BLOCK, 210, _q6_k),
    30: BlockKind("BF16", 1, 2, _plain(torch.bfloat16)),
}
