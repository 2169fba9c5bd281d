"""One layer's attention by every backend that supports it, over rings filled in part or whole."""

import sys
from collections.abc import Iterator

from nightscribe.benchmarks.measurements import copy_bytes_per_s
from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.report import Table
from nightscribe.model.device import cache_dtype_of, dtype_of
from ops.benchmarks.attention_backends import BackendCost, measure_backends
from ops.benchmarks.gpu.stage import Stage

CACHES = ("auto", "float8", "int8")
FILLS = (0.09, 0.5, 1.0)  # of the window: clips of five seconds, half a minute, long recordings
TITLE = "Attention of one layer"


def main(stage: Stage) -> None:
    bandwidth = copy_bytes_per_s(stage.device)
    for size in stage.sizes:
        for cache in CACHES:
            what = f"attention of {size}, {cache} cache"
            stage.measure(what, _table, stage, size, cache, bandwidth)


def _table(stage: Stage, size: str, cache: str, bandwidth: float) -> Table:
    return Table(
        title=f"{TITLE}: {size}, {cache}",
        columns=("model", "slots", "cache", "fill", "backend", "us", "GB read", "share of copy, %"),
        rows=[
            (
                size,
                cost.num_slots,
                cost.cache,
                cost.fill,
                cost.backend,
                1e6 * cost.call_s,
                cost.read_bytes / 1e9,
                100 * cost.read_bytes / cost.call_s / bandwidth,
            )
            for cost in _costs(stage, size, cache)
        ],
        notes=("Read: the valid entries. A masked backend reads the others too.",),
    )


def _costs(stage: Stage, size: str, cache: str) -> Iterator[BackendCost]:
    dtype = dtype_of("auto", stage.device)
    cache_dtype = cache_dtype_of(cache, dtype, stage.device)
    num_slots = 256 if stage.is_cuda else 2
    config = config_of(size).language_model
    for fill in FILLS:
        yield from measure_backends(config, num_slots, dtype, cache_dtype, stage.device, fill)


if __name__ == "__main__":
    running = Stage.of("attention", sys.argv[1:])
    main(running)
    running.end()
