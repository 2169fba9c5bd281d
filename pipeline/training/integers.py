"""Matrices as bytes: half the size of bf16, for models that must ship small.

O outputs, I inputs.
"""

import re
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

INT8_MAX = 127.0
_MATRICES = re.compile(r"transformer\.layers\.\d+\..*weight|text_linear\.weight")


def int8_rows(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The matrices of a language model in 127ths of each row's largest magnitude, the rest as is.

    The magnitudes follow under the name that checkpoints of bitsandbytes give them.
    """
    for name, tensor in tensors:
        if not _MATRICES.fullmatch(name):
            yield name, tensor
            continue
        # What is stored is what the integers must be multiples of, so it is rounded first.
        largest_O = tensor.detach().float().abs().amax(dim=1).bfloat16().clamp_min(1e-30)
        scales_O1 = largest_O.float()[:, None] / INT8_MAX
        rounded_OI = (tensor.detach().float() / scales_O1).round()
        yield name, rounded_OI.clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
        yield f"{name}_scb", largest_O
