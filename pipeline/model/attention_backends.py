"""The inner part of attention: values mixed by how well their keys answer the queries.

One function with several ways inside; they agree but for rounding. A few queries per row against a
long ring, the daily bread of the engine, are served by ways of their own.

B rows, H heads, T queries, C keys, E width of a head.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from inspect import signature
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nightscribe.model.kv_cache import Entries

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # older torch
    varlen_attn = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

FEW = 8  # queries of a row that are better served by ways of their own
# Reading every row's own entries takes a few calls per row: below so many entries saved (times
# heads and their width), one call over the longest row is quicker.
WORTH_A_ROW = 1 << 17
# Up to so many numbers of keys come from a cache, in which queries may as well look them up; beyond
# that they come from memory and are better read from one end to the other.
NEAR = 1 << 20
ALL_ROWS = slice(None)
FLASH_CAPABILITY = (8, 0)
FLASH_SETTINGS = {"seqused_k", "num_splits"}
FLASH_WIDTH = 8  # a head is as wide as some of these
COMPILERS = ("gcc", "clang")


class Sequences(NamedTuple):
    """A ring as flash attention sees it: every head of a row is a sequence."""

    starts_of_queries: Tensor
    starts_of_keys: Tensor
    lengths: Tensor


@dataclass(frozen=True)  # without slots: there is room for what was worked out once
class Sight:
    """Which entries of a ring each query sees."""

    visible_BTC: Tensor
    reach_B: tuple[int, ...] = ()  # entries worth reading, row by row, where the host knows
    # Where the queries stand at the last positions of a ring, each seeing as many before it:
    newest_B: Tensor | None = None  # the last of these positions
    context: int = 0
    num_heads: int = 1

    @cached_property
    def sequences(self) -> Sequences:
        """With one query each, in a ring as long as the context; the same for every layer."""
        assert self.newest_B is not None
        num_sequences = len(self.newest_B) * self.num_heads
        starts = torch.arange(num_sequences + 1, device=self.newest_B.device, dtype=torch.int32)
        lengths_B = (self.newest_B + 1).clamp_max(self.context).int()
        return Sequences(starts, starts * self.context, lengths_B.repeat_interleave(self.num_heads))

    @cached_property
    def hidden_BHTC(self) -> Tensor:
        """What no query sees, for all heads alike."""
        return ~self.visible_BTC[:, None]

    @cached_property
    def scores_NTC(self) -> Tensor:
        """What is added to the scores of each head of a row: nothing, or what hides an entry."""
        scores_BTC = torch.where(self.visible_BTC, 0.0, -torch.inf)
        return scores_BTC.repeat_interleave(self.num_heads, dim=0)

    @cached_property
    def num_unread(self) -> int:
        """Entries of all rows that need not be read."""
        return sum(self.visible_BTC.shape[-1] - reach for reach in self.reach_B)


Way = Callable[[Tensor, Entries, Entries, Sight], Tensor]


def mix(queries_BHTE: Tensor, keys: Entries, values: Entries, sight: Sight) -> Tensor:
    """Mixed values BHTE; ring entries beyond the width of `sight.visible_BTC` are not read.

    Torch's masked attention serves many queries and training, the best way at hand a few.
    """
    if queries_BHTE.shape[2] > FEW or queries_BHTE.requires_grad:
        return _mix_many(queries_BHTE, keys, values, sight)
    _, mix_few = next(ways_of_few(keys, sight))
    return mix_few(queries_BHTE, keys, values, sight)


def ways_of_few(keys: Entries, sight: Sight) -> Iterator[tuple[str, Way]]:
    """What can serve a few queries of this ring, the best first.

    On a CPU plain products. On a GPU flash attention over what each row holds, where it has such
    numbers and the ring no entry to hide, then our own kernel, where Triton is at hand.
    """
    if keys.numbers_BHCE.device.type == "cpu":
        yield "products", _mix_few_on_cpu
    elif sight.newest_B is not None:
        if sight.context == keys.numbers_BHCE.shape[2] and _has_flash(keys):
            yield "flash", _mix_one_by_length
        if _has_triton():
            yield "own kernel", _mix_by_own_kernel
    yield "masked", _mix_many


def _mix_by_own_kernel(
    queries_BHTE: Tensor, keys: Entries, values: Entries, sight: Sight
) -> Tensor:
    from nightscribe.model.attention_kernel import mix_ring  # which needs Triton

    assert sight.newest_B is not None
    return mix_ring(queries_BHTE, keys, values, sight.newest_B, sight.context)


@cache
def _has_triton() -> bool:
    if find_spec("triton") is None:
        log.warning("Triton is not installed: attention reads whole rings")
        return False
    if "CC" not in os.environ and not any(map(shutil.which, COMPILERS)):
        log.warning("Triton finds no C compiler (gcc): attention reads whole rings")
        return False
    return True


def _mix_many(queries_BHTE: Tensor, keys: Entries, values: Entries, sight: Sight) -> Tensor:
    num_keys, dtype = sight.visible_BTC.shape[-1], queries_BHTE.dtype
    keys_BHCE, values_BHCE = (x.cut(ALL_ROWS, num_keys).plain(dtype) for x in (keys, values))
    return F.scaled_dot_product_attention(
        queries_BHTE.to(keys_BHCE.dtype),
        keys_BHCE,
        values_BHCE,
        attn_mask=sight.visible_BTC[:, None],
    ).to(dtype)


def _mix_few_on_cpu(queries_BHTE: Tensor, keys: Entries, values: Entries, sight: Sight) -> Tensor:
    """Plain products in fp32: torch's fused attention takes up to ten times as long for so few."""
    num_rows, num_heads, _, width = queries_BHTE.shape
    num_keys = sight.visible_BTC.shape[-1]
    keys, values = keys.cut(ALL_ROWS, num_keys), values.cut(ALL_ROWS, num_keys)
    is_ragged = sight.num_unread * num_heads * width > WORTH_A_ROW * num_rows
    if is_ragged or keys.dtype != torch.float32:
        return _mix_row_by_row(queries_BHTE, keys, values, sight)
    if keys.numbers_BHCE.numel() <= NEAR:
        return _mix_near(queries_BHTE, keys.numbers_BHCE, values.numbers_BHCE, sight.scores_NTC)
    return _mix_few(queries_BHTE, keys, values, sight.hidden_BHTC)


def _mix_near(
    queries_BHTE: Tensor, keys_BHCE: Tensor, values_BHCE: Tensor, scores_NTC: Tensor
) -> Tensor:
    queries_NTE, keys_NCE, values_NCE = (
        x.flatten(0, 1) for x in (queries_BHTE.float(), keys_BHCE, values_BHCE)
    )
    scale = queries_NTE.shape[-1] ** -0.5
    scores_NTC = torch.baddbmm(scores_NTC, queries_NTE, keys_NCE.mT, alpha=scale)
    mixed_NTE = torch.bmm(scores_NTC.softmax(dim=-1), values_NCE)
    return mixed_NTE.view(queries_BHTE.shape).to(queries_BHTE.dtype)


def _mix_row_by_row(queries_BHTE: Tensor, keys: Entries, values: Entries, sight: Sight) -> Tensor:
    """What is not fp32 is widened in memory that stays in the cache."""
    is_wide, num_keys = keys.dtype == torch.float32, sight.visible_BTC.shape[-1]
    row_shape_1HCE = keys.numbers_BHCE[:1].shape
    wide_1HCE = None if is_wide else queries_BHTE.new_empty(row_shape_1HCE, dtype=torch.float32)
    rows = enumerate(sight.reach_B or [num_keys] * len(queries_BHTE))
    mixed = [
        _mix_few(
            queries_BHTE[row : row + 1],
            keys.cut(slice(row, row + 1), reach),
            values.cut(slice(row, row + 1), reach),
            sight.hidden_BHTC[row : row + 1, ..., :reach],
            wide_1HCE,
        )
        for row, reach in rows
    ]
    return torch.cat(mixed)


def _mix_few(
    queries_BHTE: Tensor,
    keys: Entries,
    values: Entries,
    hidden_BHTC: Tensor,
    wide_1HCE: Tensor | None = None,
) -> Tensor:
    scale = queries_BHTE.shape[-1] ** -0.5
    scores_BHTC = (_widened(keys, wide_1HCE) @ (queries_BHTE.float() * scale).mT).mT
    scores_BHTC = _scaled(scores_BHTC, keys)
    weights_BHTC = scores_BHTC.masked_fill(hidden_BHTC, -torch.inf).softmax(dim=-1)
    mixed_BHTE = _scaled(weights_BHTC, values) @ _widened(values, wide_1HCE)
    return mixed_BHTE.to(queries_BHTE.dtype)


def _widened(entries: Entries, wide_1HCE: Tensor | None) -> Tensor:
    numbers_BHCE = entries.numbers_BHCE
    if wide_1HCE is None:
        return numbers_BHCE
    return wide_1HCE[:, :, : numbers_BHCE.shape[2]].copy_(numbers_BHCE)


def _scaled(x_BHTC: Tensor, entries: Entries) -> Tensor:
    return x_BHTC if entries.scales_BHC is None else x_BHTC * entries.scales_BHC[:, :, None]


def _has_flash(keys: Entries) -> bool:
    return (
        _knows_lengths(varlen_attn)
        and keys.dtype in (torch.bfloat16, torch.float16)
        and keys.numbers_BHCE.shape[3] % FLASH_WIDTH == 0
        and torch.cuda.get_device_capability(keys.numbers_BHCE.device) >= FLASH_CAPABILITY
    )


@cache
def _knows_lengths(attention: Callable | None) -> bool:
    """Older versions of torch know it without some of what is asked of it here."""
    return attention is not None and signature(attention).parameters.keys() >= FLASH_SETTINGS


def _mix_one_by_length(
    queries_BHTE: Tensor, keys: Entries, values: Entries, sight: Sight
) -> Tensor:
    """Flash attention that reads the valid entries alone."""
    num_rows, num_heads, capacity, width = keys.numbers_BHCE.shape
    sequences = sight.sequences
    mixed_NHE = varlen_attn(
        queries_BHTE.to(keys.dtype).reshape(-1, 1, width),
        keys.numbers_BHCE.reshape(-1, 1, width),
        values.numbers_BHCE.reshape(-1, 1, width),
        sequences.starts_of_queries,
        sequences.starts_of_keys,
        max_q=1,
        max_k=capacity,
        seqused_k=sequences.lengths,
        num_splits=1,  # a row's rounding must not depend on the other rows
    )
    assert isinstance(mixed_NHE, Tensor)  # no statistics were asked for
    return mixed_NHE.view(num_rows, num_heads, 1, width).to(queries_BHTE.dtype)
