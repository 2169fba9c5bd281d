"""The inner part of attention: softmax(queries x keys) x values, by the best backend at hand.

All backends agree up to rounding. A few queries per row against a long ring, which is what the
engine does at every step, have backends of their own.

B rows (slots), H heads, N = B x H, T queries, C keys, E head dimension.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nightscribe.model import torch_private
from nightscribe.model.kv_cache import LayerKV
from nightscribe.model.triton_support import has_triton

MAX_FEW_QUERIES = 8  # per row; more are faster by torch's own masked attention
# Reading every row's own entries takes a few calls per row. If that skips fewer numbers than this
# per row (entries x heads x head dimension), one call over the longest row is faster.
MIN_SKIPPED_PER_ROW = 1 << 17
# Up to this many numbers the keys stay in the CPU's cache, where queries may read them in any
# order; beyond it they come from memory and are read faster from one end to the other.
MAX_CACHED_NUMBERS = 1 << 20
ALL_ROWS = slice(None)
FLASH_CAPABILITY = (8, 0)
FLASH_HEAD_DIM_MULTIPLE = 8
MIN_TRITON_HEAD_DIM = 32


class VarlenSequences(NamedTuple):
    """A ring as flash attention sees it: every head of a row is a sequence."""

    query_starts: Tensor
    key_starts: Tensor
    lengths: Tensor


@dataclass(frozen=True)  # without slots: cached properties need a dictionary
class AttentionMask:
    """Which entries of a ring each query sees; what a backend does not read is not computed."""

    visible: Callable[[], Tensor]
    lengths_B: tuple[int, ...] = ()  # entries to read of each row, where the host knows
    # Set where the queries are the last positions of a ring and each sees `context` entries:
    newest_B: Tensor | None = None  # the last of these positions
    context: int = 0
    num_heads: int = 1
    backend: str | None = None  # the fastest on this GPU, if it was measured

    @cached_property
    def visible_BTC(self) -> Tensor:
        return self.visible()

    @cached_property
    def sequences(self) -> VarlenSequences:
        """For one query per row and a ring as long as the context; the same for every layer."""
        assert self.newest_B is not None
        num_sequences = len(self.newest_B) * self.num_heads
        starts = torch.arange(num_sequences + 1, device=self.newest_B.device, dtype=torch.int32)
        lengths_B = (self.newest_B + 1).clamp_max(self.context).int()
        lengths_N = lengths_B.repeat_interleave(self.num_heads)
        return VarlenSequences(starts, starts * self.context, lengths_N)

    @cached_property
    def hidden_BHTC(self) -> Tensor:
        """The complement of `visible_BTC`, for all heads alike."""
        return ~self.visible_BTC[:, None]

    @cached_property
    def bias_NTC(self) -> Tensor:
        """The mask as an additive bias of the scores: 0 or minus infinity."""
        bias_BTC = torch.where(self.visible_BTC, 0.0, -torch.inf)
        return bias_BTC.repeat_interleave(self.num_heads, dim=0)

    @cached_property
    def num_skipped(self) -> int:
        """Entries of all rows that need not be read."""
        return sum(self.visible_BTC.shape[-1] - length for length in self.lengths_B)


Backend = Callable[[Tensor, LayerKV, LayerKV, AttentionMask], Tensor]


def attend(queries_BHTE: Tensor, keys: LayerKV, values: LayerKV, mask: AttentionMask) -> Tensor:
    """Attention output BHTE; ring entries beyond the width of `mask.visible_BTC` are not read.

    Many queries and training use torch's masked attention, a few queries the best backend.
    """
    if queries_BHTE.shape[2] > MAX_FEW_QUERIES or queries_BHTE.requires_grad:
        return _attend_sdpa(queries_BHTE, keys, values, mask)
    return _backend(keys, mask)(queries_BHTE, keys, values, mask)


def _backend(keys: LayerKV, mask: AttentionMask) -> Backend:
    """The one that was measured to be the fastest, where it is at hand; else the first."""
    if mask.backend is None:
        return next(backends(keys, mask))[1]
    at_hand = dict(backends(keys, mask))
    return at_hand.get(mask.backend, next(iter(at_hand.values())))


def backends(keys: LayerKV, mask: AttentionMask) -> Iterator[tuple[str, Backend]]:
    """What can serve a few queries of this ring, in the order in which it is used if not measured.

    On a CPU plain matrix products. On a GPU our own Triton kernel, and flash attention over the
    valid entries of each row, if it supports the dtype and no entry of the ring has to be masked.
    `attention_ranking` measures which is the fastest.
    """
    if keys.data_BHCE.device.type == "cpu":
        yield "cpu", _attend_on_cpu
    elif mask.newest_B is not None:
        if has_triton() and keys.data_BHCE.shape[3] >= MIN_TRITON_HEAD_DIM:
            yield "triton", _attend_triton
        if mask.context == keys.data_BHCE.shape[2] and _has_flash(keys):
            yield "flash", _attend_flash
    yield "sdpa", _attend_sdpa


def _attend_triton(
    queries_BHTE: Tensor, keys: LayerKV, values: LayerKV, mask: AttentionMask
) -> Tensor:
    from nightscribe.model.attention_kernel import attend_ring  # which needs Triton

    assert mask.newest_B is not None
    return attend_ring(queries_BHTE, keys, values, mask.newest_B, mask.context)


def _attend_sdpa(
    queries_BHTE: Tensor, keys: LayerKV, values: LayerKV, mask: AttentionMask
) -> Tensor:
    """Torch's attention with an explicit mask."""
    num_keys, dtype = mask.visible_BTC.shape[-1], queries_BHTE.dtype
    keys_BHCE, values_BHCE = (
        x.first(ALL_ROWS, num_keys).dequantized(dtype) for x in (keys, values)
    )
    return F.scaled_dot_product_attention(
        queries_BHTE.to(keys_BHCE.dtype),
        keys_BHCE,
        values_BHCE,
        attn_mask=mask.visible_BTC[:, None],
    ).to(dtype)


def _attend_on_cpu(
    queries_BHTE: Tensor, keys: LayerKV, values: LayerKV, mask: AttentionMask
) -> Tensor:
    """Plain products in fp32: torch's fused attention takes up to ten times as long for so few."""
    num_rows, num_heads, _, head_dim = queries_BHTE.shape
    num_keys = mask.visible_BTC.shape[-1]
    keys, values = keys.first(ALL_ROWS, num_keys), values.first(ALL_ROWS, num_keys)
    is_ragged = mask.num_skipped * num_heads * head_dim > MIN_SKIPPED_PER_ROW * num_rows
    if is_ragged or keys.dtype != torch.float32:
        return _attend_row_by_row(queries_BHTE, keys, values, mask)
    if keys.data_BHCE.numel() <= MAX_CACHED_NUMBERS:
        return _attend_batched(queries_BHTE, keys.data_BHCE, values.data_BHCE, mask.bias_NTC)
    return _attend_streaming(queries_BHTE, keys, values, mask.hidden_BHTC)


def _attend_batched(
    queries_BHTE: Tensor, keys_BHCE: Tensor, values_BHCE: Tensor, bias_NTC: Tensor
) -> Tensor:
    """Two batched products; for keys that stay in the CPU's cache."""
    queries_NTE, keys_NCE, values_NCE = (
        x.flatten(0, 1) for x in (queries_BHTE.float(), keys_BHCE, values_BHCE)
    )
    scale = queries_NTE.shape[-1] ** -0.5
    scores_NTC = torch.baddbmm(bias_NTC, queries_NTE, keys_NCE.mT, alpha=scale)
    output_NTE = torch.bmm(scores_NTC.softmax(dim=-1), values_NCE)
    return output_NTE.view(queries_BHTE.shape).to(queries_BHTE.dtype)


def _attend_row_by_row(
    queries_BHTE: Tensor, keys: LayerKV, values: LayerKV, mask: AttentionMask
) -> Tensor:
    """Row by row over its own length; a dtype other than fp32 is widened in a reused buffer."""
    is_fp32, num_keys = keys.dtype == torch.float32, mask.visible_BTC.shape[-1]
    row_shape_1HCE = keys.data_BHCE[:1].shape
    fp32_1HCE = None if is_fp32 else queries_BHTE.new_empty(row_shape_1HCE, dtype=torch.float32)
    rows = enumerate(mask.lengths_B or [num_keys] * len(queries_BHTE))
    outputs = [
        _attend_streaming(
            queries_BHTE[row : row + 1],
            keys.first(slice(row, row + 1), length),
            values.first(slice(row, row + 1), length),
            mask.hidden_BHTC[row : row + 1, ..., :length],
            fp32_1HCE,
        )
        for row, length in rows
    ]
    return torch.cat(outputs)


def _attend_streaming(
    queries_BHTE: Tensor,
    keys: LayerKV,
    values: LayerKV,
    hidden_BHTC: Tensor,
    fp32_1HCE: Tensor | None = None,
) -> Tensor:
    """Products that read keys and values once, in order; scales are applied to the scores."""
    scale = queries_BHTE.shape[-1] ** -0.5
    scores_BHTC = (_in_fp32(keys, fp32_1HCE) @ (queries_BHTE.float() * scale).mT).mT
    scores_BHTC = _scaled(scores_BHTC, keys)
    weights_BHTC = scores_BHTC.masked_fill(hidden_BHTC, -torch.inf).softmax(dim=-1)
    output_BHTE = _scaled(weights_BHTC, values) @ _in_fp32(values, fp32_1HCE)
    return output_BHTE.to(queries_BHTE.dtype)


def _in_fp32(kv: LayerKV, fp32_1HCE: Tensor | None) -> Tensor:
    if fp32_1HCE is None:
        return kv.data_BHCE
    return fp32_1HCE[:, :, : kv.data_BHCE.shape[2]].copy_(kv.data_BHCE)


def _scaled(x_BHTC: Tensor, kv: LayerKV) -> Tensor:
    return x_BHTC if kv.scales_BHC is None else x_BHTC * kv.scales_BHC[:, :, None]


def _has_flash(keys: LayerKV) -> bool:
    return (
        torch_private.has_flash_by_length()
        and keys.dtype in (torch.bfloat16, torch.float16)
        and keys.data_BHCE.shape[3] % FLASH_HEAD_DIM_MULTIPLE == 0
        and torch.cuda.get_device_capability(keys.data_BHCE.device) >= FLASH_CAPABILITY
    )


def _attend_flash(
    queries_BHTE: Tensor, keys: LayerKV, values: LayerKV, mask: AttentionMask
) -> Tensor:
    """Flash attention that reads the valid entries alone."""
    num_rows, num_heads, capacity, head_dim = keys.data_BHCE.shape
    sequences = mask.sequences
    output_NTE = torch_private.flash_attention(
        queries_BHTE.to(keys.dtype).reshape(-1, 1, head_dim),
        keys.data_BHCE.reshape(-1, 1, head_dim),
        values.data_BHCE.reshape(-1, 1, head_dim),
        sequences.query_starts,
        sequences.key_starts,
        capacity,
        sequences.lengths,
    )
    return output_NTE.view(num_rows, num_heads, 1, head_dim).to(queries_BHTE.dtype)
