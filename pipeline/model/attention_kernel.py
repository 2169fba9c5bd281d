"""Our own kernel for a few queries against a ring: reads the entries that hold something, alone.

The ring is cut into spans of a fixed length, whatever the slots at hand, and what they give is
added in one order: no rounding depends on a neighbour. Numbers of eight bits are widened inside.
Blocks of entries are on their way before they are due, and no warp waits for what another found
before a span is at its end.
Needs Triton, which comes with torch for NVIDIA GPUs.

B rows, H heads, T queries, C entries of a ring or of a block, E width of a head, P spans.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# What a kernel is given are pointers, blocks and constants; Triton has no types for them.

import torch
import triton
import triton.language as tl
from torch import Tensor

from nightscribe.model.kv_cache import Entries

SPAN = 256  # entries; shorter ones keep more of a GPU busy with few slots, and cost more to add up
BLOCK = 32  # entries read at once
BLOCKS_AHEAD = 2  # on their way while one is worked on
NOTHING = tl.constexpr(-1.0e30)  # below every score, and no infinity, whose differences are none


def mix_ring(
    queries_BHTE: Tensor, keys: Entries, values: Entries, newest_B: Tensor, context: int
) -> Tensor:
    """Mixed values BHTE of the queries at the last T positions up to `newest_B`.

    Each sees the `context` positions that end with its own.
    """
    num_rows, num_heads, num_queries, width = queries_BHTE.shape
    capacity = keys.numbers_BHCE.shape[2]
    assert keys.numbers_BHCE.is_contiguous()
    assert values.numbers_BHCE.is_contiguous()
    num_spans, num_vectors = triton.cdiv(capacity, SPAN), num_rows * num_heads * num_queries
    sums_NPE = queries_BHTE.new_empty(num_vectors, num_spans, width, dtype=torch.float32)
    totals_NP2 = queries_BHTE.new_empty(num_vectors, num_spans, 2, dtype=torch.float32)
    mix_span[(num_vectors * num_spans,)](
        queries_BHTE.contiguous(),
        *(keys.numbers_BHCE, values.numbers_BHCE, keys.scales_BHC, values.scales_BHC),
        *(newest_B.contiguous(), sums_NPE, totals_NP2, context, width**-0.5),
        num_heads=num_heads,
        num_queries=num_queries,
        capacity=capacity,
        width=width,
        num_spans=num_spans,
        span=SPAN,
        block=BLOCK,
        num_blocks_ahead=BLOCKS_AHEAD,
    )
    mixed_BHTE = queries_BHTE.new_empty(queries_BHTE.shape)
    columns = triton.next_power_of_2(num_spans)
    add_spans[(num_vectors,)](sums_NPE, totals_NP2, mixed_BHTE, num_spans, columns, width)
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
    num_blocks_ahead: tl.constexpr,
):
    """One query over one span: its weighted sum of values, highest score and sum of weights."""
    head, query, part, first = _place(num_queries, num_spans, span)
    newest = tl.load(newest_ptr + head // num_heads).to(tl.int32)
    end = tl.minimum(tl.minimum(first + span, newest + 1), capacity)
    column_E = tl.arange(0, width)
    query_at = (head * num_queries + query) * width
    query_E = tl.load(queries_ptr + query_at + column_E).to(tl.float32) * scale
    highest_C, weight_C, sum_CE = _nothing_gathered(block, width)
    for start in tl.range(first, end, block, num_stages=num_blocks_ahead + 1):
        entry_C = start + tl.arange(0, block)
        at_C, is_held_C = head * capacity + entry_C, entry_C < end
        key_CE = _read(keys_ptr, at_C, is_held_C, column_E, width)
        value_CE = _read(values_ptr, at_C, is_held_C, column_E, width)
        seen_C = is_held_C & _is_seen(newest - entry_C, num_queries - 1 - query, capacity, context)
        score_C = _scaled(tl.sum(key_CE * query_E[None, :], 1), key_scales_ptr, at_C, is_held_C)
        highest_C, shrink_C, new_C = _weigh(score_C, seen_C, highest_C)
        weight_C = weight_C * shrink_C + new_C
        new_C = _scaled(new_C, value_scales_ptr, at_C, is_held_C)
        sum_CE = sum_CE * shrink_C[:, None] + value_CE * new_C[:, None]
    _keep(sums_ptr, totals_ptr, part, column_E, sum_CE, highest_C, weight_C)


@triton.jit
def _nothing_gathered(block: tl.constexpr, width: tl.constexpr):
    """Of each place of a block, before the first: the highest score, all weights, their sum."""
    highest_C = tl.full([block], NOTHING, dtype=tl.float32)
    weight_C = tl.zeros([block], dtype=tl.float32)
    return highest_C, weight_C, tl.zeros([block, width], dtype=tl.float32)


@triton.jit
def _keep(sums_ptr, totals_ptr, part, column_E, sum_CE, highest_C, weight_C):
    """Add up what the places of a block have gathered, each since the beginning of the span."""
    highest = tl.max(highest_C, 0)
    share_C = tl.exp(highest_C - highest)
    sum_E = tl.sum(sum_CE * share_C[:, None], 0)
    tl.store(sums_ptr + part * sum_CE.shape[1] + column_E, sum_E)
    tl.store(totals_ptr + part * 2, highest)
    tl.store(totals_ptr + part * 2 + 1, tl.sum(weight_C * share_C, 0))


@triton.jit
def _place(num_queries: tl.constexpr, num_spans: tl.constexpr, span: tl.constexpr):
    """Which head of which row, which query, where its part of the answer goes, the first entry.

    Queries of one head stand next to each other: the first reads memory, the others its cache.
    """
    program = tl.program_id(0).to(tl.int64)  # times the size of a ring it may pass 32 bits
    query = (program % num_queries).to(tl.int32)
    span_index = (program // num_queries % num_spans).to(tl.int32)
    head = program // (num_queries * num_spans)
    part = (head * num_queries + query) * num_spans + span_index
    return head, query, part, span_index * span


@triton.jit
def _is_seen(entries_back_C, positions_back, capacity: tl.constexpr, context):
    """Whether an entry holds one of the `context` positions that end so far before the newest."""
    age_C = entries_back_C % capacity
    return (age_C >= positions_back) & (age_C < positions_back + context)


@triton.jit
def _read(ring_ptr, at_C, is_held_C, column_E, width: tl.constexpr):
    at_CE = at_C[:, None] * width + column_E[None, :]
    return tl.load(ring_ptr + at_CE, mask=is_held_C[:, None], other=0.0).to(tl.float32)


@triton.jit
def _scaled(x_C, scales_ptr, at_C, is_held_C):
    if scales_ptr is not None:
        x_C *= tl.load(scales_ptr + at_C, mask=is_held_C, other=0.0).to(tl.float32)
    return x_C


@triton.jit
def _weigh(score_C, is_seen_C, highest_C):
    """The highest scores so far, by how much that shrinks what was gathered, and new weights.

    Every place of a block counts for itself: to agree on one, all warps would have to wait.
    """
    score_C = tl.where(is_seen_C, score_C, NOTHING)
    higher_C = tl.maximum(highest_C, score_C)
    new_C = tl.where(is_seen_C, tl.exp(score_C - higher_C), 0.0)
    return higher_C, tl.exp(highest_C - higher_C), new_C


@triton.jit
def add_spans(
    sums_ptr,
    totals_ptr,
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
    highest_P = tl.load(totals_ptr + part_P * 2, mask=is_span_P, other=NOTHING)
    weight_P = tl.load(totals_ptr + part_P * 2 + 1, mask=is_span_P, other=0.0)
    share_P = tl.exp(highest_P - tl.max(highest_P, 0))
    column_E = tl.arange(0, width)
    sum_PE = _read(sums_ptr, part_P, is_span_P, column_E, width)
    mixed_E = tl.sum(sum_PE * share_P[:, None], 0) / tl.sum(weight_P * share_P, 0)
    mixed_at = mixed_ptr + query * width + column_E
    tl.store(mixed_at, mixed_E.to(mixed_ptr.dtype.element_ty))
