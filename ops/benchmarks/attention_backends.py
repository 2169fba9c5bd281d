"""Attention alone, by every backend that supports it: one layer, one query per slot, full caches.

B rows (slots), H heads, T queries, C entries of the KV cache, E width of a head.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from nightscribe.benchmarks.measurements import in_turns, medians
from nightscribe.model.attention_backends import backends
from nightscribe.model.device import name_of
from nightscribe.model.kv_cache import KVCache
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.transformer import ring_mask

REPEATS = 5
CALLS = 10  # per turn: the host prepares one call while another runs


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCost:
    """One call of one backend."""

    backend: str
    cache: str
    num_slots: int
    call_s: float
    read_bytes: int


def measure_backends(
    language_model: LanguageModel, num_slots: int, dtype: torch.dtype, cache_dtype: torch.dtype
) -> Iterator[BackendCost]:
    """Queries in `dtype`, keys and values in `cache_dtype`."""
    geometry, device = (
        language_model.transformer.geometry,
        language_model.embedding.table.weight.device,
    )
    context, width = geometry.window.context, geometry.head_dim
    shape_LBHCE = 1, num_slots, geometry.num_heads, context, width
    ring = KVCache.empty(shape_LBHCE, device, cache_dtype)
    ring.next_positions_B.fill_(context)
    sight = ring_mask(ring.advance(1), geometry.window, geometry.num_heads)
    queries_BHTE = torch.randn(num_slots, geometry.num_heads, 1, width, device=device, dtype=dtype)
    entries = ring.keys.layer(0), ring.values.layer(0)
    actions = {
        name: partial(_several, partial(way, queries_BHTE, *entries, sight))
        for name, way in backends(entries[0], sight)
    }
    for name, elapsed in in_turns(actions, REPEATS, device).items():
        yield BackendCost(
            backend=name,
            cache=name_of(cache_dtype),
            num_slots=num_slots,
            call_s=medians(elapsed).wall_s / CALLS,
            read_bytes=ring.keys.size_bytes + ring.values.size_bytes,
        )


def _several(call: Callable[[], object]) -> None:
    for _ in range(CALLS):
        call()
