"""Which attention backend is the fastest on this GPU: measured once, then read from a file.

The file is in the user's cache, one for each GPU and versions of torch and Triton.
"""

import json
import logging
import os
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from nightscribe.model.attention_backends import AttentionMask, Backend, backends
from nightscribe.model.kv_cache import KVCache, LayerKV
from nightscribe.model.transformer import Transformer, ring_mask

log = logging.getLogger(__name__)

NUM_TURNS, NUM_CALLS = 5, 8


def fastest_backend(
    transformer: Transformer, cache: KVCache, num_queries: int, dtype: torch.dtype
) -> str:
    """Over all rows of a cache with every entry in use; what the cache holds is not changed."""
    rings = cache.keys.layer(0), cache.values.layer(0)
    path, setting = _file(cache.next_positions_B.device), _setting(rings[0], num_queries)
    known = json.loads(path.read_text()) if path.exists() else {}
    if setting not in known:
        times_ms = _measure(transformer, cache, num_queries, dtype)
        if not times_ms:
            raise RuntimeError("no attention backend works here; the log above says why")
        log.info("attention of %s, ms a layer: %s", setting, times_ms)
        known[setting] = min(times_ms, key=lambda name: times_ms[name])
        _write(path, known)
    return known[setting]


def _measure(
    transformer: Transformer, cache: KVCache, num_queries: int, dtype: torch.dtype
) -> dict[str, float]:
    rings, geometry = (cache.keys.layer(0), cache.values.layer(0)), transformer.geometry
    full = KVCache(cache.keys, cache.values, torch.full_like(cache.next_positions_B, 1 << 20))
    mask = ring_mask(full.advance(num_queries), geometry.window, geometry.num_heads)
    num_rows, num_heads, _, head_dim = rings[0].data_BHCE.shape
    shape = num_rows, num_heads, num_queries, head_dim
    queries_BHTE = torch.zeros(shape, device=rings[0].data_BHCE.device, dtype=dtype)
    at_hand = dict(backends(rings[0], mask))
    calls = {
        name: partial(_several, backend, queries_BHTE, rings, mask)
        for name, backend in at_hand.items()
    }
    calls = {name: call for name, call in calls.items() if _works(name, call)}
    turns = [{name: _elapsed_ms(call) for name, call in calls.items()} for _ in range(NUM_TURNS)]
    return {name: median(turn[name] for turn in turns) / NUM_CALLS for name in calls}


def _works(name: str, call: partial) -> bool:
    """Call once, for what is compiled then; versions of torch and Triton may refuse a backend."""
    try:
        call()
    except Exception:
        log.warning("attention by %s failed and is not used", name, exc_info=True)
        return False
    return True


def _several(
    backend: Backend, queries_BHTE: Tensor, rings: tuple[LayerKV, LayerKV], mask: AttentionMask
) -> None:
    for _ in range(NUM_CALLS):
        backend(queries_BHTE, *rings, mask)


def _elapsed_ms(call: partial) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def _setting(keys: LayerKV, num_queries: int) -> str:
    sizes = "x".join(map(str, keys.data_BHCE.shape))
    return f"{sizes} {str(keys.dtype).removeprefix('torch.')}, {num_queries} queries"


def _file(device: torch.device) -> Path:
    try:
        triton_version = version("triton")
    except PackageNotFoundError:
        triton_version = "none"
    gpu = torch.cuda.get_device_name(device).replace(" ", "-")
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{gpu}_torch-{torch.__version__}_triton-{triton_version}.json"
    return cache_home / "nightscribe" / "attention" / name


def _write(path: Path, known: dict[str, str]) -> None:
    """Atomically: several processes may measure at once, and the last one's file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(f".{os.getpid()}")
    partial_path.write_text(json.dumps(known, indent=1))
    partial_path.replace(path)
