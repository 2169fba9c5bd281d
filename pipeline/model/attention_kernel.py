"""A Triton kernel for a few queries against a ring that reads only the entries in use.

One program serves all queries of a head. It goes through the ring span by span (split-K) and block
by block, in matrix products. Where there are too few heads to fill the GPU, each span has a program
of its own, and a second kernel merges the spans. Both merge them in the same order, with the same
operations: rounding never depends on the number of slots.

A head's columns are handled in two halves. Of 8-bit entries, two neighbours are read as one 16-bit
number, whose halves are widened to fp16; byte by byte it would take twice as many instructions.
Needs Triton, which comes with torch for NVIDIA GPUs.

B rows, H heads, N = B x H, T queries, C entries of a block, E columns of half a head, P spans.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Arguments of a kernel are pointers, blocks and constants; Triton has no types for them.

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from nightscribe.model.attention_kernel_parts import (
    MASKED,
    is_visible,
    load_halves,
    load_part,
    load_queries,
    load_scales,
    merged,
    multiply,
    no_sums,
    num_used,
    query_places,
    store_output,
    store_part,
)
from nightscribe.model.kv_cache import EIGHT_BITS, LayerKV, limit_of

SPAN = 256  # entries; shorter spans use more of a GPU with few slots, but cost more to merge
MAX_QUERIES = 16  # rows of the smallest matrix product; fewer are padded
PROGRAMS_PER_MULTIPROCESSOR = 4  # that keep a GPU busy without splitting the ring
LOG2_E = 1.4426950408889634


class Tile(NamedTuple):
    """How one program is laid out on the GPU."""

    block: int  # entries read at once
    num_warps: int
    num_stages: int  # blocks in memory at once: one is computed on, the others are prefetched


# By bytes of a number of an entry. Chosen by instructions and registers, not yet by time: the sweep
# `python -m ops.benchmarks.gpu.sweep` times the candidates on a GPU.
TILES = {2: Tile(64, 4, 3), 1: Tile(64, 4, 3)}
TILE_WITHOUT_TENSOR_CORES = Tile(32, 4, 2)


@dataclass(frozen=True)
class Layout:
    """What the kernels are compiled for."""

    num_heads: int
    num_queries: int
    width: int
    context: int
    capacity: int
    span: int
    tile: Tile
    is_split: bool  # each span has its own program
    limit: float  # of 8-bit values
    is_packed: bool  # 8-bit
    is_float8: bool
    has_tensor_cores: bool  # for the dtype that is multiplied
    has_assembler: bool  # not interpreted

    @property
    def num_rows(self) -> int:
        """Queries, padded."""
        return MAX_QUERIES if self.has_tensor_cores else triton.next_power_of_2(self.num_queries)

    @property
    def half(self) -> int:
        return self.width // 2

    @property
    def pitch(self) -> int:
        """From an entry to the next, in numbers as they are read."""
        return self.half if self.is_packed else self.width

    @property
    def high_column(self) -> int:
        """From a lower column to its upper one."""
        return 1 if self.is_packed else self.half

    @property
    def column_step(self) -> int:
        return 2 if self.is_packed else 1


def attend_ring(
    queries_BHTE: Tensor,
    keys: LayerKV,
    values: LayerKV,
    newest_B: Tensor,
    context: int,
    tile: Tile | None = None,
) -> Tensor:
    """Attention output BHTE of the queries at the last T positions up to `newest_B`.

    Each query sees the `context` positions that end with its own.
    """
    assert keys.data_BHCE.is_contiguous()
    assert values.data_BHCE.is_contiguous()
    num_rows, num_heads, _, width = queries_BHTE.shape
    queries_BTHE = queries_BHTE.transpose(1, 2).contiguous()
    output_BTHE, num_programs = torch.empty_like(queries_BTHE), num_rows * num_heads
    num_spans = triton.cdiv(keys.data_BHCE.shape[2], SPAN)
    is_split = num_spans > 1 and num_programs < _num_programs_that_fill(queries_BHTE.device)
    layout = _layout(queries_BHTE, keys, context, tile, is_split)
    parts = _new_parts(queries_BTHE, num_spans) if is_split else (output_BTHE, output_BTHE)
    attend_spans[(num_programs, num_spans if is_split else 1)](
        queries_BTHE,
        *map(_as_read, (keys.data_BHCE, values.data_BHCE)),
        *(keys.scales_BHC, values.scales_BHC),
        newest_B,
        output_BTHE,
        *parts,
        width**-0.5 * LOG2_E,
        layout,
        num_warps=layout.tile.num_warps,
    )
    if is_split:
        merge_spans[(num_programs,)](*parts, newest_B, output_BTHE, num_spans, layout)
    return output_BTHE.transpose(1, 2)


def _layout(
    queries_BHTE: Tensor, keys: LayerKV, context: int, tile: Tile | None, is_split: bool
) -> Layout:
    _, num_heads, num_queries, width = queries_BHTE.shape
    assert num_queries <= MAX_QUERIES
    is_packed = keys.scales_BHC is not None
    has_cores = keys.dtype != torch.float32 and has_tensor_cores(keys.data_BHCE.device)
    return Layout(
        num_heads,
        num_queries,
        width,
        context,
        capacity=keys.data_BHCE.shape[2],
        span=SPAN,
        tile=tile or (TILES[keys.dtype.itemsize] if has_cores else TILE_WITHOUT_TENSOR_CORES),
        is_split=is_split,
        limit=limit_of(keys.dtype) if is_packed else 1.0,
        is_packed=is_packed,
        is_float8=keys.dtype == torch.float8_e4m3fn,
        has_tensor_cores=has_cores,
        has_assembler=not is_interpreted(),
    )


@cache
def has_tensor_cores(device: torch.device) -> bool:
    """Whether Triton uses tensor cores on a GPU: not before Ampere."""
    return is_interpreted() or torch.cuda.get_device_capability(device) >= (8, 0)


def _as_read(data_BHCE: Tensor) -> Tensor:
    return data_BHCE.view(torch.int16) if data_BHCE.dtype in EIGHT_BITS else data_BHCE


def _new_parts(queries_BTHE: Tensor, num_spans: int) -> tuple[Tensor, Tensor]:
    """For each span and query: its weighted sum of values; its highest score and sum of weights."""
    num_rows, num_queries, num_heads, width = queries_BTHE.shape
    shape_NPT = num_rows * num_heads, num_spans, num_queries
    sums = queries_BTHE.new_empty(*shape_NPT, width, dtype=torch.float32)
    return sums, queries_BTHE.new_empty(*shape_NPT, 2, dtype=torch.float32)


@cache
def _num_programs_that_fill(device: torch.device) -> int:
    properties = torch.cuda.get_device_properties(device)
    return PROGRAMS_PER_MULTIPROCESSOR * properties.multi_processor_count


def is_interpreted() -> bool:
    """Whether Triton interprets kernels, as in tests without a GPU."""
    return not isinstance(attend_spans, triton.JITFunction)


@triton.jit
def attend_spans(
    queries_ptr,
    keys_ptr,
    values_ptr,
    key_scales_ptr,
    value_scales_ptr,
    newest_ptr,
    output_ptr,
    sums_ptr,
    totals_ptr,
    scale,
    layout: tl.constexpr,
):
    """All queries of a head over one span, or over all of them."""
    head, first = tl.program_id(0), tl.program_id(1) * layout.span
    newest = tl.load(newest_ptr + head // layout.num_heads)
    end = num_used(newest, layout)
    if first >= end:
        return
    end = tl.minimum(first + layout.span, end) if layout.is_split else end
    at_TE, is_query_T1 = query_places(head, layout.num_heads, layout)
    queries = load_queries(queries_ptr + at_TE, is_query_T1, keys_ptr.dtype.element_ty, layout)
    ring = head.to(tl.int64) * layout.capacity  # 64 bits: multiplied by the size of an entry
    keys_ptr += ring * layout.pitch
    values_ptr += ring * layout.pitch
    if layout.is_packed:
        key_scales_ptr += ring
        value_scales_ptr += ring
    newest_at = (newest % layout.capacity).to(tl.int32)
    highest_T, weight_T, low_TE, high_TE = no_sums(layout)
    for start in tl.range(first, end, layout.span, num_stages=1):
        span_end = tl.minimum(start + layout.span, end)
        keys, values = (keys_ptr, key_scales_ptr), (values_ptr, value_scales_ptr)
        sums = _attend_span(queries, scale, keys, values, start, span_end, newest_at, layout)
        highest_T, weight_T, low_TE, high_TE = merged(highest_T, weight_T, low_TE, high_TE, sums)
    if layout.is_split:
        part = head.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
        store_part(sums_ptr, totals_ptr, part, highest_T, weight_T, low_TE, high_TE, layout)
    else:
        store_output(output_ptr + at_TE, is_query_T1, weight_T, low_TE, high_TE, layout)


@triton.jit
def _attend_span(queries, scale, keys, values, first, end, newest_at, layout: tl.constexpr):
    """Highest score, sum of weights and both weighted sums of values of each query."""
    low_query_TE, high_query_TE, power_T1 = queries
    keys_ptr, key_scales_ptr = keys
    values_ptr, value_scales_ptr = values
    dtype: tl.constexpr = low_query_TE.dtype
    block: tl.constexpr = layout.tile.block
    entry_C = tl.arange(0, block)
    at_CE = entry_C[:, None] * layout.pitch + tl.arange(0, layout.half)[None, :]
    highest_T, weight_T, low_sum_TE, high_sum_TE = no_sums(layout)
    key_scale_C = load_scales(key_scales_ptr, first, end, layout)
    value_scale_C = load_scales(value_scales_ptr, first, end, layout)
    for start in tl.range(first, end, block, num_stages=layout.tile.num_stages):
        is_used_C = entry_C < end - start
        low_CE, high_CE = load_halves(keys_ptr + start * layout.pitch + at_CE, is_used_C, layout)
        score_TC = multiply(low_query_TE, tl.trans(low_CE), None, layout)
        score_TC = multiply(high_query_TE, tl.trans(high_CE), score_TC, layout)
        score_TC *= power_T1 * scale
        if layout.is_packed:
            score_TC *= key_scale_C[None, :]
        is_visible_TC = is_visible(is_used_C, newest_at, start + entry_C, layout)
        score_TC = tl.where(is_visible_TC, score_TC, MASKED)
        higher_T = tl.maximum(highest_T, tl.max(score_TC, 1))
        rescale_T, new_TC = tl.exp2(highest_T - higher_T), tl.exp2(score_TC - higher_T[:, None])
        highest_T, weight_T = higher_T, weight_T * rescale_T + tl.sum(new_TC, 1)
        if layout.is_packed:
            new_TC *= value_scale_C[None, :] * layout.limit
            # Of the next block, so that their way from memory is hidden.
            key_scale_C = load_scales(key_scales_ptr, start + block, end, layout)
            value_scale_C = load_scales(value_scales_ptr, start + block, end, layout)
        low_CE, high_CE = load_halves(values_ptr + start * layout.pitch + at_CE, is_used_C, layout)
        new_TC, rescale_T1 = new_TC.to(dtype), rescale_T[:, None]
        low_sum_TE = multiply(new_TC, low_CE, low_sum_TE * rescale_T1, layout)
        high_sum_TE = multiply(new_TC, high_CE, high_sum_TE * rescale_T1, layout)
    return highest_T, weight_T, low_sum_TE, high_sum_TE


@triton.jit
def merge_spans(sums_ptr, totals_ptr, newest_ptr, output_ptr, num_spans, layout: tl.constexpr):
    """Merge the spans in use of a head's queries, and divide by the sum of weights."""
    head = tl.program_id(0)
    newest = tl.load(newest_ptr + head // layout.num_heads)
    highest_T, weight_T, low_TE, high_TE = no_sums(layout)
    first = head.to(tl.int64) * num_spans
    for span in tl.range(0, tl.cdiv(num_used(newest, layout), layout.span)):
        part = load_part(sums_ptr, totals_ptr, first + span, layout)
        highest_T, weight_T, low_TE, high_TE = merged(highest_T, weight_T, low_TE, high_TE, part)
    at_TE, is_query_T1 = query_places(head, layout.num_heads, layout)
    store_output(output_ptr + at_TE, is_query_T1, weight_T, low_TE, high_TE, layout)
