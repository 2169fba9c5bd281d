"""Triton kernels around Mimi's convolutions: their pasts, and the inputs that begin with them.

The pasts of all convolutions of a slot are one row of numbers. A call reads them from the slots it
continues into a tensor of its own and writes what they have become from another: no kernel reads
what an other program of it writes. Needs Triton, which comes with torch for NVIDIA GPUs.

R rows of a call, B slots, F numbers of all pasts, C channels, N columns, P columns of the past.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Arguments of a kernel are pointers, blocks and constants; Triton has no types for them.

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
CHANNELS, COLUMNS = 16, 64  # of a program that joins


@torch.library.custom_op("nightscribe::take_pasts", mutates_args=())
def take_pasts(
    pasts_BF: Tensor, positions_B: Tensor, sources_R: Tensor, fresh_R: Tensor
) -> tuple[Tensor, Tensor]:
    """Pasts and next positions of some slots; zero where a stream begins."""
    num_rows, num_kept = len(sources_R), pasts_BF.shape[1]
    pasts_RF, starts_R = pasts_BF.new_empty(num_rows, num_kept), torch.empty_like(sources_R)
    take_pasts_kernel[(num_rows, triton.cdiv(num_kept, BLOCK))](
        pasts_BF, positions_B, sources_R, fresh_R, pasts_RF, starts_R, num_kept, BLOCK
    )
    return pasts_RF, starts_R


@take_pasts.register_fake
def _(pasts_BF, positions_B, sources_R, fresh_R):
    return pasts_BF.new_empty(len(sources_R), pasts_BF.shape[1]), torch.empty_like(sources_R)


@triton.jit
def take_pasts_kernel(
    pasts_ptr,
    positions_ptr,
    sources_ptr,
    fresh_ptr,
    taken_ptr,
    starts_ptr,
    num_kept,
    block: tl.constexpr,
):
    row = tl.program_id(0)
    at_F = tl.program_id(1) * block + tl.arange(0, block)
    source, is_fresh = tl.load(sources_ptr + row), tl.load(fresh_ptr + row) > 0
    is_kept_F = at_F < num_kept
    past_F = tl.load(pasts_ptr + source * num_kept + at_F, mask=is_kept_F & (not is_fresh), other=0)
    tl.store(taken_ptr + row.to(tl.int64) * num_kept + at_F, past_F, mask=is_kept_F)
    if tl.program_id(1) == 0:
        start = tl.load(positions_ptr + source)
        tl.store(starts_ptr + row, tl.where(is_fresh, 0, start))


@torch.library.custom_op("nightscribe::put_pasts", mutates_args=("pasts_BF", "positions_B"))
def put_pasts(
    pasts_BF: Tensor,
    positions_B: Tensor,
    targets_R: Tensor,
    new_RF: Tensor,
    starts_R: Tensor,
    num_positions: int,
) -> None:
    """Pasts and next positions of some slots after so many positions more."""
    num_rows, num_kept = new_RF.shape
    put_pasts_kernel[(num_rows, triton.cdiv(num_kept, BLOCK))](
        pasts_BF, positions_B, targets_R, new_RF, starts_R, num_positions, num_kept, BLOCK
    )


@put_pasts.register_fake
def _(pasts_BF, positions_B, targets_R, new_RF, starts_R, num_positions):
    return None


@triton.jit
def put_pasts_kernel(
    pasts_ptr,
    positions_ptr,
    targets_ptr,
    new_ptr,
    starts_ptr,
    num_positions,
    num_kept,
    block: tl.constexpr,
):
    row = tl.program_id(0)
    at_F = tl.program_id(1) * block + tl.arange(0, block)
    target, is_kept_F = tl.load(targets_ptr + row), at_F < num_kept
    new_F = tl.load(new_ptr + row.to(tl.int64) * num_kept + at_F, mask=is_kept_F)
    tl.store(pasts_ptr + target * num_kept + at_F, new_F, mask=is_kept_F)
    if tl.program_id(1) == 0:
        tl.store(positions_ptr + target, tl.load(starts_ptr + row) + num_positions)


@torch.library.custom_op("nightscribe::join_past", mutates_args=("new_past_RCP",))
def join_past(
    x_RCN: Tensor,
    bias_C: Tensor | None,
    past_RCP: Tensor,
    new_past_RCP: Tensor,
    fresh_R: Tensor | None,
    scale: float,
    activate: bool,
) -> Tensor:
    """The padded input of a convolution, RC(P + N): its past, and x times scale plus bias.

    With `activate` this goes through an ELU. With `fresh_R` the first column, repeated, is the past
    of a stream that begins. `new_past_RCP` gets the last columns.
    """
    num_rows, num_channels, num_columns = x_RCN.shape
    num_past = past_RCP.shape[2]
    padded_RCN = past_RCP.new_empty(num_rows, num_channels, num_past + num_columns)
    channels = min(CHANNELS, triton.next_power_of_2(num_channels))
    blocks = triton.cdiv(num_channels, channels), triton.cdiv(num_past + num_columns, COLUMNS)
    join_past_kernel[(num_rows, *blocks)](
        (x_RCN, bias_C, past_RCP, fresh_R),
        (padded_RCN, new_past_RCP),
        x_RCN.stride(),
        (past_RCP.stride(0), new_past_RCP.stride(0)),
        (num_channels, num_columns),
        scale,
        num_past,
        activate,
        channels,
        COLUMNS,
    )
    return padded_RCN


@join_past.register_fake
def _(x_RCN, bias_C, past_RCP, new_past_RCP, fresh_R, scale, activate):
    num_rows, num_channels, num_columns = x_RCN.shape
    return past_RCP.new_empty(num_rows, num_channels, past_RCP.shape[2] + num_columns)


@triton.jit
def join_past_kernel(
    inputs,
    outputs,
    x_strides,
    past_strides,
    sizes,
    scale,
    num_past: tl.constexpr,
    activate: tl.constexpr,
    channels: tl.constexpr,
    columns: tl.constexpr,
):
    x_ptr, bias_ptr, past_ptr, fresh_ptr = inputs
    num_channels, num_columns = sizes
    row = tl.program_id(0).to(tl.int64)
    channel_C1 = (tl.program_id(1) * channels + tl.arange(0, channels))[:, None]
    column_1N = (tl.program_id(2) * columns + tl.arange(0, columns))[None, :]
    is_inside = (channel_C1 < num_channels) & (column_1N < num_past + num_columns)
    is_past = column_1N < num_past
    from_1N = column_1N - num_past
    if fresh_ptr is not None:
        is_first = is_past & (tl.load(fresh_ptr + row) > 0)
        from_1N, is_past = tl.where(is_first, 0, from_1N), is_past & (is_first == 0)
    x_at = row * x_strides[0] + channel_C1 * x_strides[1] + from_1N * x_strides[2]
    x_CN = tl.load(x_ptr + x_at, mask=is_inside & (is_past == 0), other=0).to(tl.float32) * scale
    if bias_ptr is not None:
        x_CN += tl.load(bias_ptr + channel_C1, mask=channel_C1 < num_channels, other=0.0)
    if activate:
        x_CN = tl.where(x_CN > 0, x_CN, tl.exp(x_CN) - 1)
    past_at = row * past_strides[0] + channel_C1 * num_past + column_1N
    kept_CN = tl.load(past_ptr + past_at, mask=is_inside & is_past, other=0.0)
    x_CN = tl.where(is_past, kept_CN, x_CN)
    padded_at = (row * num_channels + channel_C1) * (num_past + num_columns) + column_1N
    tl.store(outputs[0] + padded_at, x_CN, mask=is_inside)
    new_at = row * past_strides[1] + channel_C1 * num_past + column_1N - num_columns
    tl.store(outputs[1] + new_at, x_CN, mask=is_inside & (column_1N >= num_columns))
