"""Attention alone, by every backend that supports it: one layer, one query per slot.

B rows (slots), H heads, T queries, C entries of the KV cache, E width of a head.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from nightscribe.benchmarks.measurements import fill_with_noise, in_turns, medians
from nightscribe.model.attention_backends import backends
from nightscribe.model.config import LanguageModelConfig
from nightscribe.model.device import name_of
from nightscribe.model.kv_cache import KVCache
from nightscribe.model.transformer import Window, ring_mask

log = logging.getLogger(__name__)

REPEATS = 5
CALLS = 10  # per turn: the host prepares one call while another runs


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCost:
    """One call of one backend."""

    backend: str
    cache: str
    num_slots: int
    fill: float  # share of the window that is valid
    call_s: float
    read_bytes: int


def measure_backends(
    config: LanguageModelConfig,
    num_slots: int,
    dtype: torch.dtype,
    cache_dtype: torch.dtype,
    device: torch.device,
    fill: float = 1.0,
) -> Iterator[BackendCost]:
    """Queries in `dtype`, keys and values in `cache_dtype`, all rows filled alike."""
    shape_LBHCE = 1, num_slots, config.num_heads, config.context, config.head_dim
    ring = KVCache.empty(shape_LBHCE, device, cache_dtype)
    for tensor in (*ring.keys.tensors(), *ring.values.tensors()):
        fill_with_noise(tensor)
    ring.next_positions_B.fill_(round(fill * config.context) - 1)
    mask = ring_mask(ring.advance(1), Window(config.context), config.num_heads)
    shape_BHTE = num_slots, config.num_heads, 1, config.head_dim
    queries_BHTE = torch.randn(shape_BHTE, device=device, dtype=dtype)
    entries = ring.keys.layer(0), ring.values.layer(0)
    actions = {
        name: partial(_several, partial(backend, queries_BHTE, *entries, mask))
        for name, backend in backends(entries[0], mask)
    }
    working = {name: action for name, action in actions.items() if _works(name, action)}
    for name, elapsed in in_turns(working, REPEATS, device).items():
        yield BackendCost(
            backend=name,
            cache=name_of(cache_dtype),
            num_slots=num_slots,
            fill=fill,
            call_s=medians(elapsed).wall_s / CALLS,
            read_bytes=int(fill * (ring.keys.size_bytes + ring.values.size_bytes)),
        )


def _works(name: str, action: Callable[[], object]) -> bool:
    """One that fails does not take the others' figures with it."""
    try:
        action()
    except Exception:
        log.warning("attention by %s failed", name, exc_info=True)
        return False
    return True


def _several(call: Callable[[], object]) -> None:
    for _ in range(CALLS):
        call()
