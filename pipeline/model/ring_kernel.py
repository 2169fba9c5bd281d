"""Our own kernel for a few queries against a ring: reads the entries that hold something, alone.

The ring is cut into spans of a fixed length, whatever the slots at hand, and what they give is
added in one order: no rounding depends on a neighbour. Numbers of eight bits are widened inside.
Needs Triton, which comes with torch for NVIDIA GPUs.

B rows, H heads, T queries, C ring entries, E width of a head, P spans of the ring.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipeline.model.keeping import Entries

SPAN = 256  # entries; shorter ones keep more of a GPU busy with few slots, and cost more to add up
BLOCK = 32  # entries read at once
NOTHING = tl.constexpr(-1.0e30)  # below every score, and no infinity, whose differences are none


def mix_ring(
    queries_BHTE: Tensor, keys: Entries, values: Entries, newest_B: Tensor, context: int
) -> Tensor:
    """Mixed values BHTE of the queries at the last T positions up to `newest_B`.

    Each sees the `context` positions that end with its own.
    """
    num_rows, num_heads, num_queries, width = queries_BHTE.shape
    capacity = keys.numbers_BHCE.shape[2]
    num_spans = triton.cdiv(capacity, SPAN)
    shape_BHTP = (num_rows, num_heads, num_queries, num_spans)
    sums_BHTPE = queries_BHTE.new_empty(*shape_BHTP, width, dtype=torch.float32)
    highest_BHTP = queries_BHTE.new_empty(shape_BHTP, dtype=torch.float32)
    weights_BHTP = torch.empty_like(highest_BHTP)
    mixed_BHTE = queries_BHTE.new_empty(queries_BHTE.shape)
    has_scales = keys.scales_BHC is not None
    # A pointer must be given where there are no scales; it is not read.
    scales = (keys.scales_BHC, values.scales_BHC) if has_scales else (newest_B, newest_B)
    # Queries of one row come next to each other: the first reads memory, the others its cache.
    mix_span[(num_queries * num_spans, num_heads, num_rows)](
        queries_BHTE,
        keys.numbers_BHCE,
        values.numbers_BHCE,
        *scales,
        newest_B,
        sums_BHTPE,
        highest_BHTP,
        weights_BHTP,
        capacity,
        context,
        width**-0.5,
        *queries_BHTE.stride()[:3],
        *keys.numbers_BHCE.stride()[:3],
        *(keys.scales_BHC.stride() if has_scales else (0, 0, 0)),
        num_queries=num_queries,
        num_spans=num_spans,
        width=width,
        has_scales=has_scales,
        span=SPAN,
        block=BLOCK,
    )
    add_spans[(num_rows * num_heads * num_queries,)](
        sums_BHTPE,
        highest_BHTP,
        weights_BHTP,
        mixed_BHTE,
        num_spans=num_spans,
        num_columns=triton.next_power_of_2(num_spans),
        width=width,
    )
    return mixed_BHTE


@triton.jit
def mix_span(
    queries_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    newest_ptr,
    sums_ptr,
    highest_ptr,
    weights_ptr,
    capacity,
    context,
    scale,
    query_row_stride,
    query_head_stride,
    query_stride,
    row_stride,
    head_stride,
    entry_stride,
    scale_row_stride,
    scale_head_stride,
    scale_stride,
    num_queries: tl.constexpr,
    num_spans: tl.constexpr,
    width: tl.constexpr,
    has_scales: tl.constexpr,
    span: tl.constexpr,
    block: tl.constexpr,
):
    """One query over one span: its weighted sum of values, its highest score, its sum of weights."""
    query = tl.program_id(0) % num_queries
    span_index = tl.program_id(0) // num_queries
    head = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)  # times a stride it may pass 32 bits
    newest = tl.load(newest_ptr + row).to(tl.int32)
    position = newest - (num_queries - 1) + query
    first = span_index * span
    end = tl.minimum(tl.minimum(first + span, newest + 1), capacity)

    column_E = tl.arange(0, width)
    query_at = row * query_row_stride + head * query_head_stride + query * query_stride
    query_E = tl.load(queries_ptr + query_at + column_E).to(tl.float32) * scale
    ring_at = row * row_stride + head * head_stride
    scales_at = row * scale_row_stride + head * scale_head_stride
    highest = NOTHING + 0.0
    weight = 0.0
    sum_E = tl.zeros([width], dtype=tl.float32)
    for start in range(first, end, block):
        entry_C = start + tl.arange(0, block)
        is_held_C = entry_C < end
        held_position_C = newest - (newest - entry_C) % capacity
        is_seen_C = is_held_C & (held_position_C <= position)
        is_seen_C = is_seen_C & (held_position_C > position - context)
        at_CE = ring_at + entry_C[:, None] * entry_stride + column_E[None, :]
        key_CE = tl.load(keys_ptr + at_CE, mask=is_held_C[:, None], other=0.0).to(tl.float32)
        score_C = tl.sum(key_CE * query_E[None, :], axis=1)
        if has_scales:
            scale_at_C = scales_at + entry_C * scale_stride
            key_scale_C = tl.load(key_scales_ptr + scale_at_C, mask=is_held_C, other=0.0)
            score_C = score_C * key_scale_C.to(tl.float32)
        score_C = tl.where(is_seen_C, score_C, NOTHING)
        new_highest = tl.maximum(highest, tl.max(score_C, axis=0))
        weight_C = tl.where(is_seen_C, tl.exp(score_C - new_highest), 0.0)
        shrink = tl.exp(highest - new_highest)
        weight = weight * shrink + tl.sum(weight_C, axis=0)
        if has_scales:
            value_scale_C = tl.load(value_scales_ptr + scale_at_C, mask=is_held_C, other=0.0)
            weight_C = weight_C * value_scale_C.to(tl.float32)
        value_CE = tl.load(values_ptr + at_CE, mask=is_held_C[:, None], other=0.0).to(tl.float32)
        sum_E = sum_E * shrink + tl.sum(value_CE * weight_C[:, None], axis=0)
        highest = new_highest

    part = ((row * tl.num_programs(1) + head) * num_queries + query) * num_spans + span_index
    tl.store(sums_ptr + part * width + column_E, sum_E)
    tl.store(highest_ptr + part, highest)
    tl.store(weights_ptr + part, weight)


@triton.jit
def add_spans(
    sums_ptr,
    highest_ptr,
    weights_ptr,
    mixed_ptr,
    num_spans: tl.constexpr,
    num_columns: tl.constexpr,
    width: tl.constexpr,
):
    """What one query gathered over all spans, divided by all its weights."""
    query = tl.program_id(0).to(tl.int64)
    span_P = tl.arange(0, num_columns)
    is_span_P = span_P < num_spans
    part_P = query * num_spans + span_P
    highest_P = tl.load(highest_ptr + part_P, mask=is_span_P, other=NOTHING)
    share_P = tl.exp(highest_P - tl.max(highest_P, axis=0))
    weight_P = tl.load(weights_ptr + part_P, mask=is_span_P, other=0.0) * share_P
    column_E = tl.arange(0, width)
    at_PE = part_P[:, None] * width + column_E[None, :]
    sum_PE = tl.load(sums_ptr + at_PE, mask=is_span_P[:, None], other=0.0)
    mixed_E = tl.sum(sum_PE * share_P[:, None], axis=0) / tl.sum(weight_P, axis=0)
    mixed_at = mixed_ptr + query * width + column_E
    tl.store(mixed_at, mixed_E.to(mixed_ptr.dtype.element_ty))
