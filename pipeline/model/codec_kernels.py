"""Triton kernels for Mimi on a GPU: a residual block in one pass over memory; the nearest entry.

At 24,000 columns a second with 64 channels memory is what SEANet waits for. `residual_block` reads
the output of a convolution once and writes the padded input of the next: bias, both convolutions of
the block, its ELUs and its sum stay in registers. Needs Triton, which comes with torch for NVIDIA
GPUs.

B rows, C channels, H channels of the bottleneck, N columns, P columns of the past, K taps,
M vectors, V entries of a codebook, W width of an entry.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Arguments of a kernel are pointers, blocks and constants; Triton has no types for them.

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_CHANNELS = 32
MIN_BOTTLENECK = 16  # the least that a product of blocks takes
WIDE_BOTTLENECK = 64  # with more, fewer columns at once fit the registers


@torch.library.custom_op("nightscribe::residual_block", mutates_args=())
def residual_block(
    x_BCN: Tensor,
    bias_C: Tensor,
    past_BCP: Tensor,
    narrow_KHC: Tensor,
    narrow_bias_H: Tensor,
    widen_CH: Tensor,
    widen_bias_C: Tensor,
    next_past_BCP: Tensor,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    """The padded input of the next convolution, BC(P + N), after its ELU; and this block's past.

    `x_BCN` lacks its bias. `past_BCP` is after an ELU, `next_past_BCP` what the next one has kept.
    """
    num_rows, num_channels, num_columns = x_BCN.shape
    num_past, num_next = past_BCP.shape[-1], next_past_BCP.shape[-1]
    y_BCN = x_BCN.new_empty(num_rows, num_channels, num_next + num_columns)
    new_past_BCP = torch.empty_like(past_BCP)
    bottleneck = len(narrow_bias_H)
    tile = 32 if bottleneck > WIDE_BOTTLENECK else 64
    residual_tile[triton.cdiv(num_columns, tile), num_rows](
        x_BCN,
        bias_C,
        past_BCP.contiguous(),
        narrow_KHC,
        narrow_bias_H,
        widen_CH,
        widen_bias_C,
        next_past_BCP.contiguous(),
        y_BCN,
        new_past_BCP,
        num_columns,
        num_channels=num_channels,
        bottleneck=bottleneck,
        num_past=num_past,
        num_next=num_next,
        next_block=triton.next_power_of_2(num_next),
        past_block=triton.next_power_of_2(num_past),
        tile=tile,
        block=min(BLOCK_CHANNELS, num_channels),
        precision="tf32" if tf32 else "ieee",
        num_stages=1,  # more would need more shared memory than a multiprocessor has
    )
    return y_BCN, new_past_BCP


@residual_block.register_fake
def _(x_BCN, bias_C, past_BCP, narrow, narrow_bias, widen, widen_bias, next_past_BCP, tf32):
    num_rows, num_channels, num_columns = x_BCN.shape
    width = next_past_BCP.shape[-1] + num_columns
    return x_BCN.new_empty(num_rows, num_channels, width), torch.empty_like(past_BCP)


@triton.jit
def elu(x):
    return tl.where(x > 0, x, tl.exp(x) - 1)


@triton.jit
def residual_tile(
    x,
    bias,
    past,
    narrow,
    narrow_bias,
    widen,
    widen_bias,
    next_past,
    y,
    new_past,
    num_columns,
    num_channels: tl.constexpr,
    bottleneck: tl.constexpr,
    num_past: tl.constexpr,
    num_next: tl.constexpr,
    next_block: tl.constexpr,
    past_block: tl.constexpr,
    tile: tl.constexpr,
    block: tl.constexpr,
    precision: tl.constexpr,
):
    """One tile of columns of one row, all channels."""
    row = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * tile + tl.arange(0, tile)
    hidden_at = tl.arange(0, bottleneck)
    x += row * num_channels * num_columns
    past += row * num_channels * num_past
    new_past += row * num_channels * num_past
    next_past += row * num_channels * num_next
    y += row * num_channels * (num_next + num_columns)
    hidden = tl.zeros((bottleneck, tile), tl.float32)
    for first in range(0, num_channels, block):
        channels = first + tl.arange(0, block)
        own_bias = tl.load(bias + channels)[:, None]
        for tap in tl.static_range(num_past + 1):
            at = columns + tap - num_past
            now_at = channels[:, None] * num_columns + at[None, :]
            is_now = (at >= 0) & (at < num_columns)
            now = tl.load(x + now_at, mask=is_now[None, :], other=0.0)
            past_at = channels[:, None] * num_past + (at + num_past)[None, :]
            before = tl.load(past + past_at, mask=(at < 0)[None, :], other=0.0)
            taken = tl.where((at < 0)[None, :], before, elu(now + own_bias))
            weights_at = (tap * bottleneck + hidden_at[:, None]) * num_channels + channels[None, :]
            weights = tl.load(narrow + weights_at)
            hidden = tl.dot(weights, taken, hidden, input_precision=precision)
    hidden = elu(hidden + tl.load(narrow_bias + hidden_at)[:, None])
    is_column = (columns < num_columns)[None, :]
    for first in range(0, num_channels, block):
        channels = first + tl.arange(0, block)
        weights = tl.load(widen + channels[:, None] * bottleneck + hidden_at[None, :])
        sums = tl.dot(weights, hidden, input_precision=precision)
        own_at = channels[:, None] * num_columns + columns[None, :]
        own = tl.load(x + own_at, mask=is_column, other=0.0) + tl.load(bias + channels)[:, None]
        sums += own + tl.load(widen_bias + channels)[:, None]
        y_at = channels[:, None] * (num_next + num_columns) + num_next + columns[None, :]
        tl.store(y + y_at, elu(sums), mask=is_column)
        if tl.program_id(0) == 0:
            _copy_past(next_past, y, channels, num_columns, num_next, next_block)
        if tl.program_id(0) == tl.num_programs(0) - 1:
            _keep_past(x, bias, new_past, channels, num_columns, num_past, past_block)


@triton.jit
def _copy_past(next_past, y, channels, num_columns, num_next, next_block: tl.constexpr):
    """In front of the output, what the next convolution has kept."""
    at = tl.arange(0, next_block)
    is_kept = (at < num_next)[None, :]
    kept = tl.load(next_past + channels[:, None] * num_next + at[None, :], mask=is_kept)
    tl.store(y + channels[:, None] * (num_next + num_columns) + at[None, :], kept, mask=is_kept)


@triton.jit
def _keep_past(x, bias, new_past, channels, num_columns, num_past, past_block: tl.constexpr):
    """The last columns of the input, after the ELU."""
    at = tl.arange(0, past_block)
    is_kept = (at < num_past)[None, :]
    last_at = channels[:, None] * num_columns + (num_columns - num_past + at)[None, :]
    last = tl.load(x + last_at, mask=is_kept, other=0.0) + tl.load(bias + channels)[:, None]
    tl.store(new_past + channels[:, None] * num_past + at[None, :], elu(last), mask=is_kept)


@torch.library.custom_op("nightscribe::take_nearest", mutates_args=("residual_MW", "codes_M"))
def take_nearest(
    scores_MV: Tensor, codebook_VW: Tensor, residual_MW: Tensor, codes_M: Tensor
) -> None:
    """The entry of the largest score (of equal ones the first), and what it leaves over."""
    num_vectors, num_entries = scores_MV.shape
    width = codebook_VW.shape[1]
    nearest_entry[(num_vectors,)](
        scores_MV,
        codebook_VW,
        residual_MW,
        codes_M,
        num_entries=num_entries,
        entries_block=triton.next_power_of_2(num_entries),
        width=width,
        width_block=triton.next_power_of_2(width),
    )


@take_nearest.register_fake
def _(scores_MV, codebook_VW, residual_MW, codes_M):
    return None


@triton.jit
def nearest_entry(
    scores,
    codebook,
    residual,
    codes,
    num_entries: tl.constexpr,
    entries_block: tl.constexpr,
    width: tl.constexpr,
    width_block: tl.constexpr,
):
    vector = tl.program_id(0).to(tl.int64)
    entries = tl.arange(0, entries_block)
    is_entry = entries < num_entries
    own = tl.load(scores + vector * num_entries + entries, mask=is_entry, other=-float("inf"))
    best = tl.argmax(own, axis=0, tie_break_left=True)
    tl.store(codes + vector, best.to(tl.int64))
    at = tl.arange(0, width_block)
    is_inside = at < width
    entry = tl.load(codebook + best * width + at, mask=is_inside, other=0.0)
    left = tl.load(residual + vector * width + at, mask=is_inside, other=0.0) - entry
    tl.store(residual + vector * width + at, left, mask=is_inside)
