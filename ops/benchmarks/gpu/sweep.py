"""Time of our attention kernel by block, warps and stages: what fills `attention_kernel.TILES`.

    python -m ops.benchmarks.gpu.sweep FOLDER SIZES DEVICE

One layer over rings that are full, on random data; single queries first, then passes of three
frames. On a CPU, Triton's interpreter tries the code over few slots.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial

if sys.argv[-1] == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported

import torch

from nightscribe.benchmarks.measurements import in_turns, medians
from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.report import Table
from nightscribe.model.attention_kernel import TILES, Tile, attend_ring
from nightscribe.model.config import LanguageModelConfig
from nightscribe.model.kv_cache import EIGHT_BITS, KVCache
from ops.benchmarks.gpu.stage import Stage

# Each is compiled once for each kind of cache: more would not fit the time of the stage.
TILES_TO_TRY = tuple(
    Tile(*sizes)
    for sizes in (
        (32, 2, 3),
        (32, 4, 3),
        (64, 2, 3),
        (64, 4, 3),
        (64, 4, 2),
        (64, 8, 3),
        (128, 4, 3),
    )
)
CPU_TILES = (Tile(32, 4, 2),)
NUM_SLOTS = {"cuda": 256, "cpu": 1}
NUM_QUERIES = (1, 3)
NUM_CALLS, REPEATS = 10, 3
TITLE = "Tiles of our attention kernel"


def main(stage: Stage) -> None:
    for size, dtype, num_queries in tables_to_make(stage.sizes, stage.device):
        what = f"tiles of {size}, {_name(dtype)}, {num_queries} queries"
        stage.measure(what, tiles_table, stage.device, size, dtype, num_queries)


def tables_to_make(
    sizes: Sequence[str], device: torch.device
) -> Iterator[tuple[str, torch.dtype, int]]:
    """Size, dtype of the cache and number of queries."""
    # Of several queries one size: each tile is compiled anew for each, which takes the time.
    single, *several = NUM_QUERIES
    pairs = [(single, size) for size in sizes]
    pairs += [(more, size) for more in several for size in sizes[:1]]
    for num_queries, size in pairs:
        for dtype in _dtypes(device):
            yield size, dtype, num_queries


def tiles_to_try(device: torch.device) -> tuple[Tile, ...]:
    return TILES_TO_TRY if device.type == "cuda" else CPU_TILES


def tiles_table(device: torch.device, size: str, dtype: torch.dtype, num_queries: int) -> Table:
    config = config_of(size).language_model
    cache = _full_cache(config, num_queries, dtype, device)
    read_bytes = cache.keys.size_bytes + cache.values.size_bytes
    times_s = dict(_times(cache, config, num_queries, device))
    in_use = TILES[dtype.itemsize]
    return Table(
        title=f"{TITLE}: {size}, {_name(dtype)}, queries: {num_queries}",
        columns=("model", "cache", "queries", "block, warps, stages", "in use", "us", "GB/s"),
        rows=[
            (
                size,
                _name(dtype),
                num_queries,
                ", ".join(map(str, tile)),
                "yes" if tile == in_use else "",
                1e6 * time_s,
                read_bytes / time_s / 1e9,
            )
            for tile, time_s in sorted(times_s.items(), key=lambda one: one[1])
        ],
    )


def _times(
    cache: KVCache, config: LanguageModelConfig, num_queries: int, device: torch.device
) -> Iterator[tuple[Tile, float]]:
    shape = len(cache.next_positions_B), config.num_heads, num_queries, config.head_dim
    queries = torch.randn(shape, device=device, dtype=torch.bfloat16)
    rings = cache.keys.layer(0), cache.values.layer(0)
    num_calls, repeats = (NUM_CALLS, REPEATS) if device.type == "cuda" else (1, 1)
    for tile in tiles_to_try(device):
        one = partial(
            attend_ring, queries, *rings, cache.next_positions_B, config.context, tile=tile
        )
        action = partial(_several, one, num_calls)
        try:
            turns = in_turns({"": action}, repeats, device)[""]
        except Exception as error:  # too much shared memory: Triton has errors of its own
            sys.stderr.write(f"{tile}: {error}\n")
            continue
        yield tile, medians(turns).wall_s / num_calls


def _several(call: partial, num_calls: int) -> None:
    for _ in range(num_calls):
        call()


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


def _dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        return torch.bfloat16, torch.int8
    return torch.bfloat16, *EIGHT_BITS


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    running = Stage.of("sweep", sys.argv[1:])
    main(running)
    running.end()
