"""Private operators of torch, all in one place: they may change with any version.

Seen in torch 2.13; the project supports 2.9 and later. Callers first ask whether this version has
an operator, and otherwise use public ones.

N rows, K columns, M rows of the input, I and O channels.
"""

from functools import cache

import torch
from torch import Tensor, nn


def has_packed_layers(dtype: torch.dtype) -> bool:
    """Whether oneDNN can pack linear layers and convolutions of this dtype on this CPU."""
    if not torch.backends.mkldnn.is_available():
        return False
    # A CPU without AVX-512 packs no bfloat16.
    is_bfloat16 = dtype == torch.bfloat16
    return hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and (
        not is_bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def pack_linear(weight_NK: Tensor, num_rows: int) -> Tensor:
    """The weight in the blocked layout that suits inputs of about `num_rows` rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight_NK, num_rows)


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def has_one_conv_layout() -> bool:
    """Whether oneDNN wants the same blocks of a convolution for any number of columns, or almost.

    It is believed to with AVX-512, for whose bfloat16 this asks; with AVX2 it was seen not to.
    """
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack_conv1d(conv: nn.Conv1d) -> Tensor:
    """The weight of a convolution without padding, as a 2D convolution.

    In blocks if these suit any number of columns, as those of one channel do; else channels last.
    """
    if not has_one_conv_layout() and conv.in_channels > 1:
        return conv.weight.detach()[:, :, None].contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._reorder_convolution_weight(
        conv.weight.detach()[:, :, None],
        [0, 0],
        [1, *conv.stride],
        [1, *conv.dilation],
        1,
        [1, conv.in_channels, 1, 64],
    )


def packed_conv1d(
    x_BIN: Tensor, packed: Tensor, bias: Tensor | None, stride: list[int], dilation: list[int]
) -> Tensor:
    y_BO1N = torch.ops.mkldnn._convolution_pointwise(
        x_BIN[:, :, None], packed, bias, [0, 0], stride, dilation, 1, "none", [], ""
    )
    return y_BO1N[:, :, 0]


def has_int8_matmul(like: Tensor) -> bool:
    return _is_cpu_bfloat16(like) and hasattr(torch, "_weight_int8pack_mm")


def int8_matmul(x_MK: Tensor, codes_NK: Tensor, scales_N: Tensor) -> Tensor:
    return torch._weight_int8pack_mm(x_MK, codes_NK, scales_N)


def float8_matmul(
    x8_MK: Tensor, scales_M1: Tensor, weight8_NK: Tensor, scales_1N: Tensor, dtype: torch.dtype
) -> Tensor:
    """A product of float8 numbers, on a GPU; a scale for each row of both."""
    return torch._scaled_mm(
        x8_MK,
        weight8_NK.T,
        scale_a=scales_M1,
        scale_b=scales_1N,
        out_dtype=dtype,
        use_fast_accum=True,
    )


def has_int4_matmul(like: Tensor) -> bool:
    return _is_cpu_bfloat16(like) and hasattr(torch, "_convert_weight_to_int4pack_for_cpu")


def pack_int4(codes_NK: Tensor) -> Tensor:
    return torch._convert_weight_to_int4pack_for_cpu(codes_NK, 1)


def int4_matmul(x_MK: Tensor, packed: Tensor, group: int, scales_zeros_GN2: Tensor) -> Tensor:
    return torch._weight_int4pack_mm_for_cpu(x_MK, packed, group, scales_zeros_GN2)


def _is_cpu_bfloat16(like: Tensor) -> bool:
    """The products of quantized weights on a CPU are fast in bfloat16 only."""
    return like.device.type == "cpu" and like.dtype == torch.bfloat16


@cache
def _flash_arguments() -> frozenset[str]:
    operator = getattr(torch.ops.aten, "_flash_attention_forward", None)
    arguments = operator.default._schema.arguments if operator is not None else ()
    return frozenset(argument.name for argument in arguments)


def has_flash_by_length() -> bool:
    """Whether flash attention can be told how many entries of each sequence are in use."""
    return "seqused_k" in _flash_arguments()


def flash_attention(
    queries_NTE: Tensor,
    keys_NE: Tensor,
    values_NE: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    max_keys: int,
    num_used: Tensor,
) -> Tensor:
    """One query of each sequence over its first entries; rounding ignores other sequences."""
    # Versions without the argument never split.
    splits = {"num_splits": 1} if "num_splits" in _flash_arguments() else {}
    sequences = query_starts, key_starts, 1, max_keys
    output, *_ = torch.ops.aten._flash_attention_forward(
        *(queries_NTE, keys_NE, values_NE, *sequences),
        *(0.0, False, False),  # no dropout, not causal, no debugging output
        seqused_k=num_used,
        **splits,
    )
    return output
