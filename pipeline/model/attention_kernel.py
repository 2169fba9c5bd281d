"""A Triton kernel for a few queries against a ring that reads only the entries in use.

The ring is split into spans of a fixed length (split-K), independent of the number of slots, and
their results are added in a fixed order: rounding never depends on other slots. 8-bit data is
widened inside. Blocks of entries are prefetched, and warps exchange their results only at the end
of a span.
Needs Triton, which comes with torch for NVIDIA GPUs.

B rows, H heads, N = B x H x T, T queries, C entries of a ring or of a block, E head dimension,
P spans.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Arguments of a kernel are pointers, blocks and constants; Triton has no types for them.

import torch
import triton
import triton.language as tl
from torch import Tensor

from nightscribe.model.kv_cache import LayerKV

SPAN = 256  # entries; shorter spans use more of a GPU with few slots, but cost more to add up
BLOCK = 32  # entries read at once
PREFETCHED_BLOCKS = 2  # while another is computed on
MASKED = tl.constexpr(-1.0e30)  # below every score; finite, since inf - inf is NaN


def attend_ring(
    queries_BHTE: Tensor, keys: LayerKV, values: LayerKV, newest_B: Tensor, context: int
) -> Tensor:
    """Attention output BHTE of the queries at the last T positions up to `newest_B`.

    Each query sees the `context` positions that end with its own.
    """
    num_rows, num_heads, num_queries, width = queries_BHTE.shape
    capacity = keys.data_BHCE.shape[2]
    assert keys.data_BHCE.is_contiguous()
    assert values.data_BHCE.is_contiguous()
    num_spans, num_vectors = triton.cdiv(capacity, SPAN), num_rows * num_heads * num_queries
    sums_NPE = queries_BHTE.new_empty(num_vectors, num_spans, width, dtype=torch.float32)
    totals_NP2 = queries_BHTE.new_empty(num_vectors, num_spans, 2, dtype=torch.float32)
    attend_span[(num_vectors * num_spans,)](
        queries_BHTE.contiguous(),
        keys.data_BHCE,
        values.data_BHCE,
        keys.scales_BHC,
        values.scales_BHC,
        newest_B.contiguous(),
        sums_NPE,
        totals_NP2,
        context,
        width**-0.5,
        num_heads=num_heads,
        num_queries=num_queries,
        capacity=capacity,
        width=width,
        num_spans=num_spans,
        span=SPAN,
        block=BLOCK,
        num_prefetched=PREFETCHED_BLOCKS,
    )
    output_BHTE = queries_BHTE.new_empty(queries_BHTE.shape)
    columns = triton.next_power_of_2(num_spans)
    add_spans[(num_vectors,)](sums_NPE, totals_NP2, output_BHTE, num_spans, columns, width)
    return output_BHTE


@triton.jit
def attend_span(
    queries_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    newest_ptr,
    sums_ptr,
    totals_ptr,
    context,
    scale,
    num_heads: tl.constexpr,
    num_queries: tl.constexpr,
    capacity: tl.constexpr,
    width: tl.constexpr,
    num_spans: tl.constexpr,
    span: tl.constexpr,
    block: tl.constexpr,
    num_prefetched: tl.constexpr,
):
    """One query over one span: its weighted sum of values, highest score and sum of weights."""
    head, query, part, first = _program(num_queries, num_spans, span)
    newest, column_E = tl.load(newest_ptr + head // num_heads).to(tl.int32), tl.arange(0, width)
    end = tl.minimum(tl.minimum(first + span, newest + 1), capacity)
    query_at_E = (head * num_queries + query) * width + column_E
    query_E = tl.load(queries_ptr + query_at_E).to(tl.float32) * scale
    highest_C, weight_C, sum_CE = _empty_sums(block, width)
    for start in tl.range(first, end, block, num_stages=num_prefetched + 1):
        entry_C = start + tl.arange(0, block)
        at_C, is_valid_C = head * capacity + entry_C, entry_C < end
        key_CE = _load(keys_ptr, at_C, is_valid_C, column_E, width)
        value_CE = _load(values_ptr, at_C, is_valid_C, column_E, width)
        visible_C = _is_visible(newest - entry_C, num_queries - 1 - query, capacity, context)
        score_C = _scaled(tl.sum(key_CE * query_E[None, :], 1), key_scales_ptr, at_C, is_valid_C)
        highest_C, rescale_C, new_C = _update_softmax(score_C, is_valid_C & visible_C, highest_C)
        weight_C = weight_C * rescale_C + new_C
        new_C = _scaled(new_C, value_scales_ptr, at_C, is_valid_C)
        sum_CE = sum_CE * rescale_C[:, None] + value_CE * new_C[:, None]
    _store_span(sums_ptr, totals_ptr, part, column_E, sum_CE, highest_C, weight_C)


@triton.jit
def _empty_sums(block: tl.constexpr, width: tl.constexpr):
    """Per lane of a block, initially: highest score, sum of weights, weighted sum of values."""
    highest_C = tl.full([block], MASKED, dtype=tl.float32)
    weight_C = tl.zeros([block], dtype=tl.float32)
    return highest_C, weight_C, tl.zeros([block, width], dtype=tl.float32)


@triton.jit
def _store_span(sums_ptr, totals_ptr, part, column_E, sum_CE, highest_C, weight_C):
    """Add up the sums of all lanes, each over its part of the span, and store them."""
    highest = tl.max(highest_C, 0)
    share_C = tl.exp(highest_C - highest)
    sum_E = tl.sum(sum_CE * share_C[:, None], 0)
    tl.store(sums_ptr + part * sum_CE.shape[1] + column_E, sum_E)
    tl.store(totals_ptr + part * 2, highest)
    tl.store(totals_ptr + part * 2 + 1, tl.sum(weight_C * share_C, 0))


@triton.jit
def _program(num_queries: tl.constexpr, num_spans: tl.constexpr, span: tl.constexpr):
    """This program's head of a row, query, index of its partial result, and first entry.

    Queries of one head are neighbours: the first reads from memory, the others from the cache.
    """
    program = tl.program_id(0).to(tl.int64)  # 64 bits: multiplied by the size of a ring
    query = (program % num_queries).to(tl.int32)
    span_index = (program // num_queries % num_spans).to(tl.int32)
    head = program // (num_queries * num_spans)
    part = (head * num_queries + query) * num_spans + span_index
    return head, query, part, span_index * span


@triton.jit
def _is_visible(entries_back_C, positions_back, capacity: tl.constexpr, context):
    """Whether an entry is among the `context` positions that end `positions_back` ago."""
    age_C = entries_back_C % capacity
    return (age_C >= positions_back) & (age_C < positions_back + context)


@triton.jit
def _load(ring_ptr, at_C, is_valid_C, column_E, width: tl.constexpr):
    at_CE = at_C[:, None] * width + column_E[None, :]
    return tl.load(ring_ptr + at_CE, mask=is_valid_C[:, None], other=0.0).to(tl.float32)


@triton.jit
def _scaled(x_C, scales_ptr, at_C, is_valid_C):
    if scales_ptr is not None:
        x_C *= tl.load(scales_ptr + at_C, mask=is_valid_C, other=0.0).to(tl.float32)
    return x_C


@triton.jit
def _update_softmax(score_C, is_visible_C, highest_C):
    """Online softmax: new highest scores, the factor for the sums so far, and new weights.

    Every lane has its own maximum: to share one, all warps would have to wait for each other.
    """
    score_C = tl.where(is_visible_C, score_C, MASKED)
    higher_C = tl.maximum(highest_C, score_C)
    new_C = tl.where(is_visible_C, tl.exp(score_C - higher_C), 0.0)
    return higher_C, tl.exp(highest_C - higher_C), new_C


@triton.jit
def add_spans(
    sums_ptr,
    totals_ptr,
    output_ptr,
    num_spans: tl.constexpr,
    num_columns: tl.constexpr,
    width: tl.constexpr,
):
    """Add up one query's spans and divide by the sum of weights."""
    query = tl.program_id(0).to(tl.int64)
    span_P = tl.arange(0, num_columns)
    is_span_P = span_P < num_spans
    part_P = query * num_spans + span_P
    highest_P = tl.load(totals_ptr + part_P * 2, mask=is_span_P, other=MASKED)
    weight_P = tl.load(totals_ptr + part_P * 2 + 1, mask=is_span_P, other=0.0)
    share_P = tl.exp(highest_P - tl.max(highest_P, 0))
    column_E = tl.arange(0, width)
    sum_PE = _load(sums_ptr, part_P, is_span_P, column_E, width)
    output_E = tl.sum(sum_PE * share_P[:, None], 0) / tl.sum(weight_P * share_P, 0)
    output_at = output_ptr + query * width + column_E
    tl.store(output_at, output_E.to(output_ptr.dtype.element_ty))
