"""Tensors of the native layout as they are stored: plain, or quantized with scales.

O outputs, I inputs, G groups of inputs that share a scale, P inputs packed in one 32-bit word.
"""

import torch
from torch import Tensor

from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.stored_tensors import Read, Shape, StoredTensors

INT8_MAX = 127.0
WORD_BITS = 32


def take_dequantized(tensors: StoredTensors, name: str, shape: Shape) -> Read:
    """One tensor of this shape, however the file stores it."""
    stem = name.removesuffix("_weight").removesuffix(".weight")
    if f"{name}_scb" in tensors:
        return _int8_rows(tensors, name, shape)
    if f"{stem}.scales" in tensors:
        return _packed_groups(tensors, name, stem, shape)
    return _plain(tensors, name, shape)


def _plain(tensors: StoredTensors, name: str, shape: Shape) -> Read:
    # MLX and some GGUF writers store the norms' scales without the leading dimensions of 1.
    if shape[:-1] == (1, 1) and name in tensors and tensors.shape(name) == shape[-1:]:
        stored = tensors.take(name, shape[-1:])
        return lambda: stored.read().view(shape)
    return tensors.take(name, shape).read


def _int8_rows(tensors: StoredTensors, name: str, shape: Shape) -> Read:
    """bitsandbytes: a row is its integers times its largest magnitude / 127."""
    integers = tensors.take_raw(name, shape)
    largest = tensors.take(f"{name}_scb", shape[:1])

    def read() -> Tensor:
        return integers.read().float() * (largest.read().float() / INT8_MAX)[:, None]

    return read


def _packed_groups(tensors: StoredTensors, name: str, stem: str, shape: Shape) -> Read:
    """MLX: groups of inputs share a scale and a bias; the integers fill 32-bit words."""
    num_outputs, num_inputs = shape
    num_words = tensors.shape(name)[-1]
    bits = num_words * WORD_BITS // num_inputs
    if bits not in (2, 4, 8) or bits * num_inputs != num_words * WORD_BITS:
        raise CheckpointError(
            f"{tensors.path}: tensor {name!r} packs {num_inputs} inputs in {num_words} words of "
            f"{WORD_BITS} bits; 2, 4 and 8 bits an input are supported"
        )
    words = tensors.take_raw(name, (num_outputs, num_words))
    num_groups = tensors.shape(f"{stem}.scales")[-1]
    if num_inputs % num_groups:
        raise CheckpointError(
            f"{tensors.path}: tensor {name!r} has {num_groups} groups for {num_inputs} inputs"
        )
    scales = tensors.take(f"{stem}.scales", (num_outputs, num_groups))
    biases = tensors.take(f"{stem}.biases", (num_outputs, num_groups))

    def read() -> Tensor:
        integers_OGI = _unpacked(words.read(), bits).view(num_outputs, num_groups, -1)
        values_OGI = integers_OGI.float() * scales.read().float()[..., None]
        return values_OGI.add_(biases.read().float()[..., None]).view(shape)

    return read


def _unpacked(words_OW: Tensor, bits: int) -> Tensor:
    """The first input is in the lowest bits of its word."""
    bytes_OB = words_OW.contiguous().view(torch.uint8)
    shifts_P = torch.arange(0, 8, bits, dtype=torch.uint8)
    return (bytes_OB[..., None] >> shifts_P) & (2**bits - 1)
