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

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_CHANNELS = 32
MIN_BOTTLENECK = 16  # the least that a product of blocks takes
WIDE_BOTTLENECK = 64  # with more, fewer columns at once fit the registers


@dataclass(frozen=True)
class BlockLayout:
    """What the kernel of a residual block is compiled for."""

    num_channels: int
    bottleneck: int
    num_past: int  # columns of the past of this block
    num_next: int  # and of the convolution after it
    precision: str

    @property
    def tile(self) -> int:
        """Columns of one program."""
        return 32 if self.bottleneck > WIDE_BOTTLENECK else 64

    @property
    def num_channels_at_once(self) -> int:
        return min(BLOCK_CHANNELS, self.num_channels)

    @property
    def past_width(self) -> int:
        return triton.next_power_of_2(self.num_past)

    @property
    def next_width(self) -> int:
        return triton.next_power_of_2(self.num_next)


@torch.library.custom_op(
    "nightscribe::residual_block", mutates_args=("new_past_BCP", "new_next_past_BCP")
)
def residual_block(
    x_BCN: Tensor,
    bias_C: Tensor,
    past_BCP: Tensor,
    narrow_KHC: Tensor,
    narrow_bias_H: Tensor,
    widen_CH: Tensor,
    widen_bias_C: Tensor,
    next_past_BCP: Tensor,
    new_past_BCP: Tensor,
    new_next_past_BCP: Tensor,
    tf32: bool,
) -> Tensor:
    """The padded input of the next convolution, BC(P + N), after its ELU.

    `x_BCN` lacks its bias. `past_BCP` and `next_past_BCP` are the pasts of this block and of that
    convolution, after their ELUs, and the new ones what they become.
    """
    num_rows, num_channels, num_columns = x_BCN.shape
    block = BlockLayout(
        num_channels=num_channels,
        bottleneck=len(narrow_bias_H),
        num_past=past_BCP.shape[-1],
        num_next=next_past_BCP.shape[-1],
        precision="tf32" if tf32 else "ieee",
    )
    assert num_columns >= max(block.num_past, block.num_next)
    y_BCN = x_BCN.new_empty(num_rows, num_channels, block.num_next + num_columns)
    pasts = past_BCP, next_past_BCP, new_past_BCP, new_next_past_BCP
    residual_tile[triton.cdiv(num_columns, block.tile), num_rows](
        (x_BCN, bias_C, past_BCP, next_past_BCP),
        (narrow_KHC, narrow_bias_H, widen_CH, widen_bias_C),
        (y_BCN, new_past_BCP, new_next_past_BCP),
        tuple(past.stride(0) for past in pasts),
        num_columns,
        block,
        num_stages=1,  # more would need more shared memory than a multiprocessor has
    )
    return y_BCN


@residual_block.register_fake
def _(
    x_BCN, bias, past, narrow, narrow_bias, widen, widen_bias, next_past_BCP, new, next_new, tf32
):
    num_rows, num_channels, num_columns = x_BCN.shape
    return x_BCN.new_empty(num_rows, num_channels, next_past_BCP.shape[-1] + num_columns)


@triton.jit
def elu(x):
    return tl.where(x > 0, x, tl.exp(x) - 1)


@triton.jit
def residual_tile(inputs, weights, outputs, strides, num_columns, block: tl.constexpr):
    """One tile of columns of one row, all channels; `strides` are those of the rows of pasts."""
    row = tl.program_id(1).to(tl.int64)
    x, bias = inputs[0] + row * block.num_channels * num_columns, inputs[1]
    past, next_past = inputs[2] + row * strides[0], inputs[3] + row * strides[1]
    y = outputs[0] + row * block.num_channels * (block.num_next + num_columns)
    new_past, new_next_past = outputs[1] + row * strides[2], outputs[2] + row * strides[3]
    columns = tl.program_id(0) * block.tile + tl.arange(0, block.tile)
    is_column = (columns < num_columns)[None, :]
    hidden = _narrowed(x, bias, past, weights[0], weights[1], columns, num_columns, block)
    for first in range(0, block.num_channels, block.num_channels_at_once):
        channels = first + tl.arange(0, block.num_channels_at_once)
        hidden_at = tl.arange(0, block.bottleneck)
        widen = tl.load(weights[2] + channels[:, None] * block.bottleneck + hidden_at[None, :])
        sums = tl.dot(widen, hidden, input_precision=block.precision)
        own_at = channels[:, None] * num_columns + columns[None, :]
        own = tl.load(x + own_at, mask=is_column, other=0.0) + tl.load(bias + channels)[:, None]
        sums += own + tl.load(weights[3] + channels)[:, None]
        y_at = channels[:, None] * (block.num_next + num_columns) + block.num_next
        activated = elu(sums)
        tl.store(y + y_at + columns[None, :], activated, mask=is_column)
        left = columns[None, :] - (num_columns - block.num_next)
        next_at = new_next_past + channels[:, None] * block.num_next + left
        tl.store(next_at, activated, mask=is_column & (left >= 0))
        if tl.program_id(0) == 0:
            _copy_past(next_past, y, channels, num_columns, block)
        if tl.program_id(0) == tl.num_programs(0) - 1:
            _keep_past(x, bias, new_past, channels, num_columns, block)


@triton.jit
def _narrowed(x, bias, past, narrow, narrow_bias, columns, num_columns, block: tl.constexpr):
    """The bottleneck of the block, after its ELU."""
    hidden_at = tl.arange(0, block.bottleneck)
    # Older Tritons take no attributes in a shape.
    bottleneck: tl.constexpr = block.bottleneck
    tile: tl.constexpr = block.tile
    hidden = tl.zeros([bottleneck, tile], tl.float32)
    for first in range(0, block.num_channels, block.num_channels_at_once):
        channels = first + tl.arange(0, block.num_channels_at_once)
        own_bias = tl.load(bias + channels)[:, None]
        for tap in tl.static_range(block.num_past + 1):
            at = columns + tap - block.num_past
            now_at = channels[:, None] * num_columns + at[None, :]
            is_now = (at >= 0) & (at < num_columns)
            now = tl.load(x + now_at, mask=is_now[None, :], other=0.0)
            past_at = channels[:, None] * block.num_past + (at + block.num_past)[None, :]
            before = tl.load(past + past_at, mask=(at < 0)[None, :], other=0.0)
            taken = tl.where((at < 0)[None, :], before, elu(now + own_bias))
            rows_at = tap * block.bottleneck + hidden_at[:, None]
            weights = tl.load(narrow + rows_at * block.num_channels + channels[None, :])
            hidden = tl.dot(weights, taken, hidden, input_precision=block.precision)
    return elu(hidden + tl.load(narrow_bias + hidden_at)[:, None])


@triton.jit
def _copy_past(next_past, y, channels, num_columns, block: tl.constexpr):
    """In front of the output, what the next convolution has kept."""
    at = tl.arange(0, block.next_width)
    is_kept = (at < block.num_next)[None, :]
    kept = tl.load(next_past + channels[:, None] * block.num_next + at[None, :], mask=is_kept)
    y_at = channels[:, None] * (block.num_next + num_columns) + at[None, :]
    tl.store(y + y_at, kept, mask=is_kept)


@triton.jit
def _keep_past(x, bias, new_past, channels, num_columns, block: tl.constexpr):
    """The last columns of the input, after the ELU."""
    at = tl.arange(0, block.past_width)
    is_kept = (at < block.num_past)[None, :]
    last_at = channels[:, None] * num_columns + (num_columns - block.num_past + at)[None, :]
    last = tl.load(x + last_at, mask=is_kept, other=0.0) + tl.load(bias + channels)[:, None]
    past_at = channels[:, None] * block.num_past + at[None, :]
    tl.store(new_past + past_at, elu(last), mask=is_kept)


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
