"""Parts of the attention kernel: what it loads, multiplies, merges and stores.

`layout` is an `attention_kernel.Layout`, which lists what the letters mean.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

MASKED = tl.constexpr(-1.0e30)  # below every score; finite, since inf - inf is NaN


@triton.jit
def num_used(newest, layout: tl.constexpr):
    """Entries of its ring that a stream has written."""
    return tl.minimum(newest + 1, layout.capacity).to(tl.int32)


@triton.jit
def query_places(head, num_heads, layout: tl.constexpr):
    """Where the lower columns of a head's queries are, and which of the queries exist."""
    query_T1 = tl.arange(0, layout.num_rows)[:, None]
    row = (head // num_heads).to(tl.int64)
    vector_T1 = (row * layout.num_queries + query_T1) * num_heads + head % num_heads
    column_1E = tl.arange(0, layout.half)[None, :] * layout.column_step
    return vector_T1 * layout.width + column_1E, query_T1 < layout.num_queries


@triton.jit
def load_queries(low_ptr_TE, is_query_T1, entry_dtype: tl.constexpr, layout: tl.constexpr):
    """Both halves of the queries, divided by a power of two: it rounds nothing and they fit fp16.

    Also this power.
    """
    low_TE = tl.load(low_ptr_TE, mask=is_query_T1, other=0.0).to(tl.float32)
    high_TE = tl.load(low_ptr_TE + layout.high_column, mask=is_query_T1, other=0.0).to(tl.float32)
    largest_T = tl.maximum(tl.max(tl.abs(low_TE), 1), tl.max(tl.abs(high_TE), 1))
    power_T1 = tl.exp2(tl.ceil(tl.log2(tl.maximum(largest_T, 1e-30))))[:, None]
    dtype: tl.constexpr = tl.float16 if layout.is_packed else entry_dtype
    return (low_TE / power_T1).to(dtype), (high_TE / power_T1).to(dtype), power_T1


@triton.jit
def load_halves(low_ptr_CE, is_used_C, layout: tl.constexpr):
    """Both halves of the columns of a block's keys or values."""
    low_CE = tl.load(low_ptr_CE, mask=is_used_C[:, None], other=0)
    if layout.is_packed:
        low_CE, high_CE = widened(low_CE, layout)
    else:
        high_CE = tl.load(low_ptr_CE + layout.half, mask=is_used_C[:, None], other=0)
    return low_CE, high_CE


# From a register of two pairs to one of their lower and one of their upper halves, in fp16.
WIDEN_FLOAT8 = tl.constexpr("""{
    .reg .b32 bytes;
    .reg .b16 low, high;
    prmt.b32 bytes, $2, 0, 0x3120;
    mov.b32 {low, high}, bytes;
    cvt.rn.f16x2.e4m3x2 $0, low;
    cvt.rn.f16x2.e4m3x2 $1, high;
}""")
# Below an upper byte of 0x64, a byte b makes the fp16 number 1024 + b.
WIDEN_INT8 = tl.constexpr("""{
    .reg .b32 bytes;
    xor.b32 bytes, $2, 0x80808080;
    prmt.b32 $0, bytes, 0x64646464, 0x4240;
    prmt.b32 $1, bytes, 0x64646464, 0x4341;
}""")
INT8_OFFSET = tl.constexpr(1024.0 + 128.0)


@triton.jit
def widened(pair_CE, layout: tl.constexpr):
    """Both bytes of 16-bit numbers as fp16."""
    if layout.has_assembler:
        assembler: tl.constexpr = WIDEN_FLOAT8 if layout.is_float8 else WIDEN_INT8
        low_CE, high_CE = tl.inline_asm_elementwise(
            assembler, "=r,=r,r", [pair_CE], dtype=(tl.float16, tl.float16), is_pure=True, pack=2
        )
        if not layout.is_float8:
            low_CE, high_CE = low_CE - INT8_OFFSET, high_CE - INT8_OFFSET
    else:
        dtype: tl.constexpr = tl.float8e4nv if layout.is_float8 else tl.int8
        low_CE = pair_CE.to(tl.uint8).to(dtype, bitcast=True).to(tl.float16)
        high_CE = (pair_CE >> 8).to(tl.uint8).to(dtype, bitcast=True).to(tl.float16)
    return low_CE, high_CE


@triton.jit
def multiply(a, b, sums, layout: tl.constexpr):
    """A matrix product added up in fp32; Triton's interpreter multiplies no bfloat16."""
    if not (layout.has_assembler and layout.has_tensor_cores):
        a, b = a.to(tl.float32), b.to(tl.float32)
    if layout.has_tensor_cores:
        sums = tl.dot(a, b, sums)
    else:
        added = tl.sum(a[:, :, None] * b[None, :, :], 1)
        sums = added if sums is None else sums + added
    return sums


@triton.jit
def load_scales(scales_ptr, start, end, layout: tl.constexpr):
    """The scales of a block's entries; without any, nothing that is used."""
    if layout.is_packed:
        entry_C = tl.arange(0, layout.tile.block)
        scale_C = tl.load(scales_ptr + start + entry_C, mask=entry_C < end - start, other=0.0)
        return scale_C.to(tl.float32)
    else:  # Triton compiles also what follows a return
        return 1.0


@triton.jit
def is_visible(is_used_C, newest_at, entry_C, layout: tl.constexpr):
    """Whether an entry is among the `context` positions that end with each query's own."""
    is_visible_TC = is_used_C[None, :]
    if layout.capacity > layout.context:  # else there is a single query, which sees the whole ring
        back_C = newest_at - entry_C
        age_1C = tl.where(back_C < 0, back_C + layout.capacity, back_C)[None, :]
        age_T1 = layout.num_queries - 1 - tl.arange(0, layout.num_rows)[:, None]
        is_visible_TC = is_visible_TC & (age_1C >= age_T1) & (age_1C < age_T1 + layout.context)
    return is_visible_TC


@triton.jit
def no_sums(layout: tl.constexpr):
    """Highest score, sum of weights and weighted sums of values of nothing."""
    num_rows: tl.constexpr = layout.num_rows
    half: tl.constexpr = layout.half
    highest_T = tl.full([num_rows], MASKED, tl.float32)
    sum_TE = tl.zeros([num_rows, half], tl.float32)
    return highest_T, tl.zeros([num_rows], tl.float32), sum_TE, sum_TE


@triton.jit
def merged(highest_T, weight_T, low_TE, high_TE, other):
    """The sums of two parts of a ring; explicit fma, so that every kernel rounds alike."""
    other_highest_T, other_weight_T, other_low_TE, other_high_TE = other
    higher_T = tl.maximum(highest_T, other_highest_T)
    share_T, other_T = tl.exp2(highest_T - higher_T), tl.exp2(other_highest_T - higher_T)
    share_TE, other_TE = across(share_T, low_TE), across(other_T, low_TE)
    return (
        higher_T,
        tl.fma(weight_T, share_T, other_weight_T * other_T),
        tl.fma(low_TE, share_TE, other_low_TE * other_TE),
        tl.fma(high_TE, share_TE, other_high_TE * other_TE),
    )


@triton.jit
def across(x_T, like_TE):
    return tl.broadcast_to(x_T[:, None], like_TE.shape)


@triton.jit
def store_output(low_ptr_TE, is_query_T1, weight_T, low_TE, high_TE, layout: tl.constexpr):
    """The weighted mean of values."""
    total_T1, high_ptr_TE = (weight_T * layout.limit)[:, None], low_ptr_TE + layout.high_column
    dtype: tl.constexpr = low_ptr_TE.dtype.element_ty
    tl.store(low_ptr_TE, (low_TE / total_T1).to(dtype), mask=is_query_T1)
    tl.store(high_ptr_TE, (high_TE / total_T1).to(dtype), mask=is_query_T1)


@triton.jit
def store_part(
    sums_ptr, totals_ptr, part, highest_T, weight_T, low_TE, high_TE, layout: tl.constexpr
):
    at_TE, is_query_T1 = query_places(part, 1, layout)
    tl.store(sums_ptr + at_TE, low_TE, mask=is_query_T1)
    tl.store(sums_ptr + at_TE + layout.high_column, high_TE, mask=is_query_T1)
    query_T = tl.arange(0, layout.num_rows)
    total_at_T, is_query_T = (part * layout.num_queries + query_T) * 2, query_T < layout.num_queries
    tl.store(totals_ptr + total_at_T, highest_T, mask=is_query_T)
    tl.store(totals_ptr + total_at_T + 1, weight_T, mask=is_query_T)


@triton.jit
def load_part(sums_ptr, totals_ptr, part, layout: tl.constexpr):
    at_TE, is_query_T1 = query_places(part, 1, layout)
    low_TE = tl.load(sums_ptr + at_TE, mask=is_query_T1, other=0.0)
    high_TE = tl.load(sums_ptr + at_TE + layout.high_column, mask=is_query_T1, other=0.0)
    query_T = tl.arange(0, layout.num_rows)
    total_at_T, is_query_T = (part * layout.num_queries + query_T) * 2, query_T < layout.num_queries
    highest_T = tl.load(totals_ptr + total_at_T, mask=is_query_T, other=MASKED)
    weight_T = tl.load(totals_ptr + total_at_T + 1, mask=is_query_T, other=1.0)
    return highest_T, weight_T, low_TE, high_TE
