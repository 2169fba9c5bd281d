"""Triton kernels for Mimi's transformer over slots: attention from and into rings; sum and norm.

`attend_slots` reads each stream's ring where it is, in its slot, and writes the new keys and values
to the slot that the stream goes on in. Needs Triton, which comes with torch for NVIDIA GPUs.

R rows of a call, B slots, T new positions, H heads, E head dimension, J = E / 2 pairs of a head,
D width, C ring entries, Q and K queries and keys of a block.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Arguments of a kernel are pointers, blocks and constants; Triton has no types for them.

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

MASKED = tl.constexpr(-1.0e30)  # below every score; finite, since inf - inf is NaN
QUERIES, KEYS = 64, 32  # of a block
# Exact products need three times the registers of rounded ones: with 4 warps some were spilled.
WARPS_OF_ROUNDED, WARPS_OF_EXACT = 4, 8
ROTATED = 16  # positions of a program; the sines of 32 spill on Blackwell
LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class SlotLayout:
    """What the kernel of attention is compiled for."""

    num_heads: int
    width: int
    capacity: int
    context: int
    block: int  # positions that share their oldest key
    queries: int
    keys: int
    precision: str

    @property
    def half(self) -> int:
        return self.width // 2


@torch.library.custom_op("nightscribe::rotations_from", mutates_args=())
def rotations_from(starts_R: Tensor, frequencies_J: Tensor, num_new: int) -> Tensor:
    """Cosines and sines of the angles of new positions, RT2J; by the formula of the reference."""
    num_rows, num_pairs = len(starts_R), len(frequencies_J)
    rotations_RT2J = frequencies_J.new_empty(num_rows, num_new, 2, num_pairs)
    rotations_kernel[(num_rows, triton.cdiv(num_new, ROTATED))](
        starts_R, frequencies_J, rotations_RT2J, num_new, num_pairs, ROTATED
    )
    return rotations_RT2J


@rotations_from.register_fake
def _(starts_R, frequencies_J, num_new):
    return frequencies_J.new_empty(len(starts_R), num_new, 2, len(frequencies_J))


@triton.jit
def rotations_kernel(
    starts_ptr, frequencies_ptr, output_ptr, num_new, pairs: tl.constexpr, block: tl.constexpr
):
    row = tl.program_id(0)
    index_T = tl.program_id(1) * block + tl.arange(0, block)
    pair_J, is_new_T1 = tl.arange(0, pairs), (index_T < num_new)[:, None]
    position_T = (tl.load(starts_ptr + row) + index_T).to(tl.float32)
    angle_TJ = position_T[:, None] * tl.load(frequencies_ptr + pair_J)[None, :]
    at_TJ = ((row * num_new + index_T) * 2 * pairs)[:, None] + pair_J[None, :]
    tl.store(output_ptr + at_TJ, tl.cos(angle_TJ), mask=is_new_T1)
    tl.store(output_ptr + at_TJ + pairs, tl.sin(angle_TJ), mask=is_new_T1)


@torch.library.custom_op("nightscribe::attend_slots", mutates_args=("keys_BHCE", "values_BHCE"))
def attend_slots(
    qkv_RTXHE: Tensor,
    rotations_RT2J: Tensor,
    keys_BHCE: Tensor,
    values_BHCE: Tensor,
    sources_R: Tensor,
    targets_R: Tensor,
    starts_R: Tensor,
    context: int,
    block: int,
    tf32: bool,
) -> Tensor:
    """Attention output RTHE of new positions, whose keys and values are added to the targets."""
    num_rows, num_new, _, num_heads, width = qkv_RTXHE.shape
    assert num_new <= keys_BHCE.shape[2] - context + 1
    layout = SlotLayout(
        num_heads=num_heads,
        width=width,
        capacity=keys_BHCE.shape[2],
        context=context,
        block=block,
        queries=QUERIES,
        keys=KEYS,
        precision="tf32"
        if tf32
        else "tf32x3",  # the latter as exact as fp32, but for the last bits
    )
    output_RTHE = qkv_RTXHE.new_empty(num_rows, num_new, num_heads, width)
    attend_slots_kernel[(num_rows, num_heads, triton.cdiv(num_new, QUERIES))](
        (qkv_RTXHE.contiguous(), rotations_RT2J),
        (keys_BHCE, values_BHCE),
        (sources_R, targets_R, starts_R),
        output_RTHE,
        num_new,
        width**-0.5 * LOG2_E,
        layout,
        num_warps=WARPS_OF_ROUNDED if tf32 else WARPS_OF_EXACT,
    )
    return output_RTHE


@attend_slots.register_fake
def _(qkv_RTXHE, rotations, keys, values, sources, targets, starts, context, block, tf32):
    num_rows, num_new, _, num_heads, width = qkv_RTXHE.shape
    return qkv_RTXHE.new_empty(num_rows, num_new, num_heads, width)


@triton.jit
def attend_slots_kernel(new, rings, slots, output_ptr, num_new, scale, layout: tl.constexpr):
    """A block of queries of one head of a row."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    source = tl.load(slots[0] + row) * layout.num_heads + head
    target = tl.load(slots[1] + row) * layout.num_heads + head
    start = tl.load(slots[2] + row).to(tl.int32)
    pitch: tl.constexpr = 3 * layout.num_heads * layout.width
    qkv_ptr = new[0] + row * num_new * pitch + head * layout.width
    rotations_ptr = new[1] + row * num_new * layout.width
    query_Q = tl.program_id(2) * layout.queries + tl.arange(0, layout.queries)
    even_QJ, odd_QJ = _rotated(qkv_ptr, rotations_ptr, query_Q, num_new, layout)
    queries = even_QJ * scale, odd_QJ * scale, start + query_Q
    _append(qkv_ptr, rotations_ptr, rings, target, query_Q, num_new, start, layout)
    sums = _no_sums(layout)
    for first in range(0, tl.minimum(start, layout.capacity), layout.keys):
        key_K = first + tl.arange(0, layout.keys)
        is_used_K = key_K < tl.minimum(start, layout.capacity)
        at_K = (source * layout.capacity + key_K)[:, None] * layout.width
        even_at = at_K + 2 * tl.arange(0, layout.half)[None, :]
        even_KJ = tl.load(rings[0] + even_at, mask=is_used_K[:, None], other=0.0)
        odd_KJ = tl.load(rings[0] + even_at + 1, mask=is_used_K[:, None], other=0.0)
        value_at = at_K + tl.arange(0, layout.width)[None, :]
        value_KE = tl.load(rings[1] + value_at, mask=is_used_K[:, None], other=0.0)
        last = start - 1
        position_K = last - (last - key_K + layout.capacity) % layout.capacity
        sums = _added(sums, queries, even_KJ, odd_KJ, value_KE, position_K, is_used_K, layout)
    for first in range(0, num_new, layout.keys):
        key_K = first + tl.arange(0, layout.keys)
        key_ptr = qkv_ptr + layout.num_heads * layout.width
        even_KJ, odd_KJ = _rotated(key_ptr, rotations_ptr, key_K, num_new, layout)
        value_KE = _values(qkv_ptr, key_K, num_new, layout)
        is_used_K = key_K < num_new
        sums = _added(sums, queries, even_KJ, odd_KJ, value_KE, start + key_K, is_used_K, layout)
    weight_Q, sum_QE = sums[1], sums[2]
    output_at = ((row * num_new + query_Q) * layout.num_heads + head)[:, None] * layout.width
    column_1E = tl.arange(0, layout.width)[None, :]
    is_query_Q1 = (query_Q < num_new)[:, None]
    tl.store(output_ptr + output_at + column_1E, sum_QE / weight_Q[:, None], mask=is_query_Q1)


@triton.jit
def _rotated(ptr, rotations_ptr, index_T, num_new, layout: tl.constexpr):
    """Both numbers of each pair of some new vectors, after their rotation."""
    pitch: tl.constexpr = 3 * layout.num_heads * layout.width
    pair_J = tl.arange(0, layout.half)
    is_new_T1 = (index_T < num_new)[:, None]
    at = index_T[:, None] * pitch + 2 * pair_J[None, :]
    even_TJ = tl.load(ptr + at, mask=is_new_T1, other=0.0)
    odd_TJ = tl.load(ptr + at + 1, mask=is_new_T1, other=0.0)
    rotation_at = index_T[:, None] * layout.width + pair_J[None, :]
    cos_TJ = tl.load(rotations_ptr + rotation_at, mask=is_new_T1, other=0.0)
    sin_TJ = tl.load(rotations_ptr + rotation_at + layout.half, mask=is_new_T1, other=0.0)
    return even_TJ * cos_TJ - odd_TJ * sin_TJ, even_TJ * sin_TJ + odd_TJ * cos_TJ


@triton.jit
def _values(qkv_ptr, index_T, num_new, layout: tl.constexpr):
    pitch: tl.constexpr = 3 * layout.num_heads * layout.width
    at = index_T[:, None] * pitch + tl.arange(0, layout.width)[None, :]
    value_ptr = qkv_ptr + 2 * layout.num_heads * layout.width
    return tl.load(value_ptr + at, mask=(index_T < num_new)[:, None], other=0.0)


@triton.jit
def _append(qkv_ptr, rotations_ptr, rings, target, index_T, num_new, start, layout: tl.constexpr):
    """Write the keys and values of some new positions to the ring of the target."""
    key_ptr = qkv_ptr + layout.num_heads * layout.width
    even_TJ, odd_TJ = _rotated(key_ptr, rotations_ptr, index_T, num_new, layout)
    entry_T = (start + index_T) % layout.capacity
    at_T1 = (target * layout.capacity + entry_T)[:, None] * layout.width
    is_new_T1 = (index_T < num_new)[:, None]
    even_at = at_T1 + 2 * tl.arange(0, layout.half)[None, :]
    tl.store(rings[0] + even_at, even_TJ, mask=is_new_T1)
    tl.store(rings[0] + even_at + 1, odd_TJ, mask=is_new_T1)
    value_TE = _values(qkv_ptr, index_T, num_new, layout)
    tl.store(rings[1] + at_T1 + tl.arange(0, layout.width)[None, :], value_TE, mask=is_new_T1)


@triton.jit
def _no_sums(layout: tl.constexpr):
    """Highest score, sum of weights and weighted sum of values of each query."""
    # Older Tritons take no attributes in a shape.
    queries: tl.constexpr = layout.queries
    width: tl.constexpr = layout.width
    highest_Q = tl.full([queries], MASKED, tl.float32)
    return highest_Q, tl.zeros([queries], tl.float32), tl.zeros([queries, width], tl.float32)


@triton.jit
def _added(sums, queries, even_KJ, odd_KJ, value_KE, position_K, is_used_K, layout: tl.constexpr):
    """The sums with a block of keys; queries of one block share their oldest key."""
    highest_Q, weight_Q, sum_QE = sums
    even_QJ, odd_QJ, position_Q = queries
    precision: tl.constexpr = layout.precision
    score_QK = tl.dot(even_QJ, tl.trans(even_KJ), input_precision=precision)
    score_QK = tl.dot(odd_QJ, tl.trans(odd_KJ), score_QK, input_precision=precision)
    oldest_Q = position_Q // layout.block * layout.block + layout.block - layout.context
    is_visible_QK = is_used_K[None, :] & (position_K[None, :] <= position_Q[:, None])
    is_visible_QK = is_visible_QK & (position_K[None, :] >= oldest_Q[:, None])
    score_QK = tl.where(is_visible_QK, score_QK, MASKED)
    higher_Q = tl.maximum(highest_Q, tl.max(score_QK, 1))
    rescale_Q = tl.exp2(highest_Q - higher_Q)
    weight_QK = tl.exp2(score_QK - higher_Q[:, None])
    sum_QE = tl.dot(weight_QK, value_KE, sum_QE * rescale_Q[:, None], input_precision=precision)
    return higher_Q, weight_Q * rescale_Q + tl.sum(weight_QK, 1), sum_QE


@torch.library.custom_op("nightscribe::scaled_add_norm", mutates_args=())
def scaled_add_norm(
    x_RTD: Tensor,
    added_D: Tensor | None,
    branch_RTD: Tensor | None,
    factors_D: Tensor | None,
    scale_D: Tensor,
    bias_D: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """The sum of x, a vector, and a branch times factors; and its layer norm. x in any layout."""
    num_rows, num_positions, width = x_RTD.shape
    sum_RTD, normed_RTD = (x_RTD.new_empty(x_RTD.shape) for _ in range(2))
    scaled_add_norm_kernel[(num_rows * num_positions,)](
        (x_RTD, added_D, branch_RTD, factors_D),
        (scale_D, bias_D),
        (sum_RTD, normed_RTD),
        x_RTD.stride(),
        num_positions,
        eps,
        width,
        triton.next_power_of_2(width),
    )
    return sum_RTD, normed_RTD


@scaled_add_norm.register_fake
def _(x_RTD, added_D, branch_RTD, factors_D, scale_D, bias_D, eps):
    return x_RTD.new_empty(x_RTD.shape), x_RTD.new_empty(x_RTD.shape)


@triton.jit
def scaled_add_norm_kernel(
    inputs,
    norm,
    outputs,
    x_strides,
    num_positions,
    eps,
    width: tl.constexpr,
    columns: tl.constexpr,
):
    x_ptr, added_ptr, branch_ptr, factors_ptr = inputs
    index = tl.program_id(0).to(tl.int64)
    column_D = tl.arange(0, columns)
    is_column_D = column_D < width
    row, position = index // num_positions, index % num_positions
    x_at_D = row * x_strides[0] + position * x_strides[1] + column_D * x_strides[2]
    x_D = tl.load(x_ptr + x_at_D, mask=is_column_D, other=0.0)
    if added_ptr is not None:
        x_D += tl.load(added_ptr + column_D, mask=is_column_D, other=0.0)
    if branch_ptr is not None:
        branch_D = tl.load(branch_ptr + index * width + column_D, mask=is_column_D, other=0.0)
        x_D += branch_D * tl.load(factors_ptr + column_D, mask=is_column_D, other=0.0)
    tl.store(outputs[0] + index * width + column_D, x_D, mask=is_column_D)
    centred_D = tl.where(is_column_D, x_D - tl.sum(x_D, 0) / width, 0.0)
    normed_D = centred_D * tl.rsqrt(tl.sum(centred_D * centred_D, 0) / width + eps)
    normed_D *= tl.load(norm[0] + column_D, mask=is_column_D, other=0.0)
    normed_D += tl.load(norm[1] + column_D, mask=is_column_D, other=0.0)
    tl.store(outputs[1] + index * width + column_D, normed_D, mask=is_column_D)
