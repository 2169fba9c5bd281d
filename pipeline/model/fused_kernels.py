"""Triton kernels that each do what takes torch several: the rest of a step besides products.

Each rounds where the operators it replaces round. A replayed CUDA graph spends two to three
microseconds on a kernel however little it does; at 16 or 48 layers this is what a step waits for.
Needs Triton, which comes with torch for NVIDIA GPUs.

N = B x T rows, T positions of a slot, D width of the model, G width of the feed-forward, H heads,
E head dimension, J = E / 2 pairs of a head, K codebooks, V tokens.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Arguments of a kernel are pointers, blocks and constants; Triton has no types for them.

import torch
import triton
import triton.language as tl
from torch import Tensor

from nightscribe.engine.interface import HOLD
from nightscribe.model.kv_cache import SMALLEST_SCALE, LayerKV, limit_of

MAX_COLUMNS = 1024  # of a program that needs no whole row
# Adding and subtracting it rounds fp32 numbers to whole ones, halves to even.
ROUNDING = tl.constexpr(1.5 * 2**23)


def add_norm(x_BTD: Tensor, branch_BTD: Tensor, scale_D: Tensor, eps: float) -> list[Tensor]:
    """The sum of residual and branch, and its root-mean-square norm in the dtype of the scale."""
    sum_BTD, normed_BTD = torch.empty_like(x_BTD), torch.empty_like(x_BTD, dtype=scale_D.dtype)
    width = x_BTD.shape[-1]
    columns = triton.next_power_of_2(width)
    add_norm_kernel[(x_BTD.numel() // width,)](
        x_BTD.contiguous(),
        branch_BTD.contiguous(),
        scale_D,
        sum_BTD,
        normed_BTD,
        eps,
        width,
        columns,
    )
    return [sum_BTD, normed_BTD]


@triton.jit
def add_norm_kernel(
    x_ptr,
    branch_ptr,
    scale_ptr,
    sum_ptr,
    normed_ptr,
    eps,
    width: tl.constexpr,
    columns: tl.constexpr,
):
    column_D = tl.arange(0, columns)
    at_D, is_column_D = tl.program_id(0).to(tl.int64) * width + column_D, column_D < width
    x_D = tl.load(x_ptr + at_D, mask=is_column_D, other=0.0).to(tl.float32)
    x_D += tl.load(branch_ptr + at_D, mask=is_column_D, other=0.0).to(tl.float32)
    x_D = x_D.to(sum_ptr.dtype.element_ty)
    tl.store(sum_ptr + at_D, x_D, mask=is_column_D)
    x_D = x_D.to(tl.float32)
    normed_D = x_D * tl.rsqrt(tl.sum(x_D * x_D, 0) / width + eps)
    normed_D *= tl.load(scale_ptr + column_D, mask=is_column_D, other=0.0).to(tl.float32)
    tl.store(normed_ptr + at_D, normed_D.to(normed_ptr.dtype.element_ty), mask=is_column_D)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of the two halves of the last dimension."""
    width = gate_up.shape[-1] // 2
    output = gate_up.new_empty(*gate_up.shape[:-1], width)
    columns = min(triton.next_power_of_2(width), MAX_COLUMNS)
    grid = output.numel() // width, triton.cdiv(width, columns)
    silu_mul_kernel[grid](gate_up.contiguous(), output, width, columns)
    return output


@triton.jit
def silu_mul_kernel(gate_up_ptr, output_ptr, width: tl.constexpr, columns: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column_G = tl.program_id(1) * columns + tl.arange(0, columns)
    is_column_G = column_G < width
    gate_ptr_G = gate_up_ptr + row * 2 * width + column_G
    gate_G = tl.load(gate_ptr_G, mask=is_column_G, other=0.0).to(tl.float32)
    up_G = tl.load(gate_ptr_G + width, mask=is_column_G, other=0.0)
    silu_G = (gate_G / (1.0 + tl.exp(-gate_G))).to(up_G.dtype)
    output_G = silu_G.to(tl.float32) * up_G.to(tl.float32)
    output_ptr_G = output_ptr + row * width + column_G
    tl.store(output_ptr_G, output_G.to(output_ptr.dtype.element_ty), mask=is_column_G)


def rotate_append(
    qkv_BTXHE: Tensor, rotations: Tensor, positions_BT: Tensor, keys: LayerKV, values: LayerKV
) -> Tensor:
    """Rotate queries and keys, and write keys and values into the ring; returns the queries."""
    num_rows, num_queries, _, num_heads, width = qkv_BTXHE.shape
    queries_BTHE = qkv_BTXHE.new_empty(num_rows, num_queries, num_heads, width)
    is_quantized = keys.scales_BHC is not None
    rotate_append_kernel[(num_rows * num_queries, num_heads)](
        qkv_BTXHE.contiguous(),
        torch.view_as_real(rotations),
        positions_BT.contiguous(),
        queries_BTHE,
        keys.data_BHCE,
        values.data_BHCE,
        keys.scales_BHC,
        values.scales_BHC,
        num_queries,
        num_heads,
        width,
        keys.data_BHCE.shape[2],
        limit_of(keys.dtype) if is_quantized else 0.0,
        SMALLEST_SCALE,
        num_warps=1,
    )
    return queries_BTHE


@triton.jit
def rotate_append_kernel(
    qkv_ptr,
    rotations_ptr,
    positions_ptr,
    queries_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    num_queries: tl.constexpr,
    num_heads: tl.constexpr,
    width: tl.constexpr,
    capacity: tl.constexpr,
    limit: tl.constexpr,
    smallest: tl.constexpr,
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pair_J = tl.arange(0, width // 2)
    cos_ptr_J = rotations_ptr + (row * (width // 2) + pair_J) * 2
    cos_J, sin_J = tl.load(cos_ptr_J), tl.load(cos_ptr_J + 1)
    even_ptr_J = qkv_ptr + (row * 3 * num_heads + head) * width + 2 * pair_J
    even_J, odd_J = _rotated(even_ptr_J, cos_J, sin_J)
    query_ptr_J = queries_ptr + (row * num_heads + head) * width + 2 * pair_J
    tl.store(query_ptr_J, even_J)
    tl.store(query_ptr_J + 1, odd_J)
    entry = tl.load(positions_ptr + row) % capacity
    at = (row // num_queries * num_heads + head) * capacity + entry
    even_J, odd_J = _rotated(even_ptr_J + num_heads * width, cos_J, sin_J)
    _append(keys_ptr, key_scales_ptr, at, even_J, odd_J, width, limit, smallest)
    even_ptr_J += 2 * num_heads * width
    even_J, odd_J = tl.load(even_ptr_J), tl.load(even_ptr_J + 1)
    _append(values_ptr, value_scales_ptr, at, even_J, odd_J, width, limit, smallest)


@triton.jit
def _rotated(even_ptr_J, cos_J, sin_J):
    dtype: tl.constexpr = even_ptr_J.dtype.element_ty
    even_J, odd_J = tl.load(even_ptr_J).to(tl.float32), tl.load(even_ptr_J + 1).to(tl.float32)
    rotated_even_J = (even_J * cos_J - odd_J * sin_J).to(dtype)
    return rotated_even_J, (even_J * sin_J + odd_J * cos_J).to(dtype)


@triton.jit
def _append(
    ring_ptr,
    scales_ptr,
    at,
    even_J,
    odd_J,
    width: tl.constexpr,
    limit: tl.constexpr,
    smallest: tl.constexpr,
):
    """Write one vector at an entry, with a scale of its own if the ring is quantized."""
    dtype: tl.constexpr = ring_ptr.dtype.element_ty
    even_J, odd_J = even_J.to(tl.float32), odd_J.to(tl.float32)
    if scales_ptr is not None:
        largest = tl.maximum(tl.max(tl.abs(even_J), 0), tl.max(tl.abs(odd_J), 0))
        scale = tl.maximum(tl.div_rn(largest, limit), smallest).to(scales_ptr.dtype.element_ty)
        tl.store(scales_ptr + at, scale)
        even_J = _quantized(even_J, scale.to(tl.float32), dtype, limit)
        odd_J = _quantized(odd_J, scale.to(tl.float32), dtype, limit)
    even_ptr_J = ring_ptr + at * width + 2 * tl.arange(0, width // 2)
    tl.store(even_ptr_J, even_J.to(dtype))
    tl.store(even_ptr_J + 1, odd_J.to(dtype))


@triton.jit
def _quantized(x_J, scale, dtype: tl.constexpr, limit: tl.constexpr):
    ratio_J = tl.div_rn(x_J, tl.broadcast_to(scale, x_J.shape))
    ratio_J = tl.minimum(tl.maximum(ratio_J, -limit), limit)
    if dtype == tl.int8:
        ratio_J = (ratio_J + ROUNDING) - ROUNDING
    return ratio_J


def add_embeddings(
    table: Tensor, codes_BTK: Tensor, text_BT: Tensor, rows_per_codebook: int, dtype: torch.dtype
) -> Tensor:
    """The sum of a table's rows for all codes and the text, added in fp32 and rounded once."""
    (*shape, num_codebooks), width = codes_BTK.shape, table.shape[1]
    output_BTD = table.new_empty(*shape, width, dtype=dtype)
    columns = min(triton.next_power_of_2(width), MAX_COLUMNS)
    add_embeddings_kernel[(text_BT.numel(), triton.cdiv(width, columns))](
        table,
        codes_BTK.contiguous(),
        text_BT.contiguous(),
        output_BTD,
        num_codebooks,
        rows_per_codebook,
        width,
        columns,
    )
    return output_BTD


@triton.jit
def add_embeddings_kernel(
    table_ptr,
    codes_ptr,
    text_ptr,
    output_ptr,
    num_codebooks: tl.constexpr,
    rows_per_codebook: tl.constexpr,
    width: tl.constexpr,
    columns: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column_D = tl.program_id(1) * columns + tl.arange(0, columns)
    is_column_D, sum_D = column_D < width, tl.zeros([columns], tl.float32)
    for codebook in range(num_codebooks):
        code = codebook * rows_per_codebook + tl.load(codes_ptr + row * num_codebooks + codebook)
        at_D = code * width + column_D
        sum_D += tl.load(table_ptr + at_D, mask=is_column_D, other=0.0).to(tl.float32)
    text = num_codebooks * rows_per_codebook + tl.load(text_ptr + row)
    sum_D += tl.load(table_ptr + text * width + column_D, mask=is_column_D, other=0.0)
    output_ptr_D = output_ptr + row * width + column_D
    tl.store(output_ptr_D, sum_D.to(output_ptr.dtype.element_ty), mask=is_column_D)


def write_likeliest(
    logits_SV: Tensor,
    forced_S: Tensor,
    step_1: Tensor,
    last_tokens_S: Tensor,
    tokens_TS: Tensor,
    confidences_TS: Tensor,
) -> None:
    """The forced token, on `HOLD` the last one, else the likeliest; and its probability.

    Written to the rows of the current step, and the token also to `last_tokens_S`.
    """
    num_slots, num_tokens = logits_SV.shape
    write_likeliest_kernel[(num_slots,)](
        logits_SV.contiguous(),
        forced_S.contiguous(),
        step_1,
        last_tokens_S,
        tokens_TS,
        confidences_TS,
        tokens_TS.shape[1],
        HOLD,
        num_tokens,
        triton.next_power_of_2(num_tokens),
        num_warps=8,
    )


@triton.jit
def write_likeliest_kernel(
    logits_ptr,
    forced_ptr,
    step_ptr,
    last_tokens_ptr,
    tokens_ptr,
    confidences_ptr,
    table_width,
    hold: tl.constexpr,
    num_tokens: tl.constexpr,
    columns: tl.constexpr,
):
    slot, column_V = tl.program_id(0).to(tl.int64), tl.arange(0, columns)
    logits_ptr += slot * num_tokens
    is_token_V = column_V < num_tokens
    logit_V = tl.load(logits_ptr + column_V, mask=is_token_V, other=-float("inf")).to(tl.float32)
    highest, best = tl.max(logit_V, 0), tl.argmax(logit_V, 0)  # of equal ones the first
    forced = tl.load(forced_ptr + slot)
    token = tl.where(forced < 0, best.to(tl.int64), forced)
    token = tl.where(forced == hold, tl.load(last_tokens_ptr + slot), token)
    weight = tl.exp(tl.load(logits_ptr + token).to(tl.float32) - highest)
    tl.store(last_tokens_ptr + slot, token)
    at = tl.load(step_ptr) * table_width + slot
    tl.store(tokens_ptr + at, token.to(tl.int32))
    tl.store(confidences_ptr + at, weight / tl.sum(tl.exp(logit_V - highest), 0))
