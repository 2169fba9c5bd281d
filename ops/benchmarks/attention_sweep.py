"""Time of our attention kernel by block, warps and stages: what fills `attention_kernel.TILES`.

    python -m ops.benchmarks.attention_sweep FOLDER [SIZES [DEVICE]]

One layer over 256 slots whose rings are full, on random data. Writes `attention-sweep.md` after
each size. On a CPU, Triton's interpreter (`TRITON_INTERPRET=1`) tries the code over tiny rings.
"""

import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter

import torch

from nightscribe.benchmarks.random_weights import config_of
from nightscribe.model.attention_kernel import TILES, Tile, attend_ring
from nightscribe.model.config import LanguageModelConfig
from nightscribe.model.kv_cache import EIGHT_BITS, KVCache

NUM_SLOTS = {"cuda": 256, "cpu": 2}
NUM_CALLS, NUM_TURNS = 10, 3
BLOCKS, WARPS, STAGES = (32, 64, 128), (2, 4, 8), (2, 3, 4)
HEADER = "| cache | queries | block, warps, stages | ms | GB/s |\n|---|--:|---|--:|--:|"


def rows_of(config: LanguageModelConfig, device: torch.device) -> Iterator[str]:
    """The five fastest tiles of each kind of cache, and the one in use."""
    for dtype, num_queries in product((torch.bfloat16, *EIGHT_BITS), (1, 3)):
        if dtype == torch.float8_e4m3fn and not _has_float8(device):
            continue
        cache = _full_cache(config, num_queries, dtype, device)
        times_ms = dict(_times(cache, config, num_queries, device))
        fastest = sorted(times_ms, key=lambda tile: times_ms[tile])[:5]
        for tile in dict.fromkeys((*fastest, TILES[dtype.itemsize])):
            name = ", ".join(map(str, tile)) + (" *" if tile == TILES[dtype.itemsize] else "")
            time_ms = times_ms.get(tile, float("nan"))
            gigabytes = (cache.keys.size_bytes + cache.values.size_bytes) / 1e6 / time_ms
            kind = f"{str(dtype).removeprefix('torch.')} | {num_queries}"
            yield f"| {kind} | {name} | {time_ms:.3f} | {gigabytes:.0f} |"


def _full_cache(
    config: LanguageModelConfig, num_queries: int, dtype: torch.dtype, device: torch.device
) -> KVCache:
    num_slots, capacity = NUM_SLOTS[device.type], config.context + num_queries - 1
    shape_LBHCE = (1, num_slots, config.num_heads, capacity, config.head_dim)
    cache = KVCache.empty(shape_LBHCE, device, dtype)
    rows_B1 = torch.arange(num_slots, device=device)[:, None]
    everywhere = rows_B1, torch.arange(capacity, device=device).expand(num_slots, -1)
    for kept in (cache.keys, cache.values):
        noise = torch.randn(num_slots, capacity, config.num_heads, config.head_dim, device=device)
        kept.write(0, everywhere, noise.to(torch.bfloat16))
    cache.next_positions_B.fill_(10 * config.context)
    return cache


def _times(
    cache: KVCache, config: LanguageModelConfig, num_queries: int, device: torch.device
) -> Iterator[tuple[Tile, float]]:
    shape = NUM_SLOTS[device.type], config.num_heads, num_queries, config.head_dim
    queries = torch.randn(shape, device=device, dtype=torch.bfloat16)
    rings = cache.keys.layer(0), cache.values.layer(0)
    for sizes in product(BLOCKS, WARPS, STAGES) if device.type == "cuda" else [(32, 4, 2)]:
        tile = Tile(*sizes)
        attend = partial(
            attend_ring, queries, *rings, cache.next_positions_B, config.context, tile=tile
        )
        try:
            attend()
        except Exception as error:  # too much shared memory: Triton has errors of its own
            print(f"{sizes}: {error}", file=sys.stderr)  # noqa: T201
            continue
        yield tile, min(_elapsed_ms(attend, device) for _ in range(NUM_TURNS))


def _elapsed_ms(call: partial, device: torch.device) -> float:
    if device.type != "cuda":
        began_s = perf_counter()
        call()
        return (perf_counter() - began_s) * 1e3
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(NUM_CALLS):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / NUM_CALLS


def _has_float8(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 9)


if __name__ == "__main__":
    folder, *others = sys.argv[1:]
    sizes, device = (*others, *("1b,2.6b", "cuda")[len(others) :])
    path, lines = Path(folder) / "attention-sweep.md", []
    for size in sizes.split(","):
        lines += [f"## {size}, *: the tile in use", "", HEADER]
        for row in rows_of(config_of(size).language_model, torch.device(device)):
            lines.append(row)
            path.write_text("\n".join(lines) + "\n")
