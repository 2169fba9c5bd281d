"""Compiles our attention kernel in every form that the later stages call, on several cores.

    python -m ops.benchmarks.gpu.compiled FOLDER SIZES DEVICE

Triton keeps what is compiled in its cache. A form takes a core about two seconds, and the sweep has
some sixty: in their own time, the stages would compile more than they measure.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import torch

from nightscribe.benchmarks.random_weights import PUBLISHED_NAMES
from nightscribe.model.attention_kernel import Tile
from nightscribe.model.device import cache_dtype_of, dtype_of
from ops.benchmarks.gpu.attention import CACHES
from ops.benchmarks.gpu.stage import Stage
from ops.benchmarks.gpu.sweep import tables_to_make, tiles_to_try

MOST_PROCESSES = 8  # the others measure


class Form(NamedTuple):
    """What the kernel is compiled for."""

    size: str
    dtype: torch.dtype  # of the cache
    num_queries: int
    tile: Tile | None


def forms(stage: Stage) -> Iterator[Form]:
    """In the order in which the stages need them."""
    sizes = [size for size in stage.sizes if size in PUBLISHED_NAMES]
    dtype = dtype_of("auto", stage.device)
    for size in sizes:
        for cache in CACHES:
            yield Form(size, cache_dtype_of(cache, dtype, stage.device), 1, None)
    for size, cache_dtype, num_queries in tables_to_make(sizes, stage.device):
        for tile in tiles_to_try(stage.device):
            yield Form(size, cache_dtype, num_queries, tile)


def compiled(form: Form, capability: int) -> str:
    """What came of it."""
    from ops.benchmarks.kernel_code import attention_code  # which changes the settings of Triton

    try:
        (code,) = attention_code(
            form.size.upper(), form.dtype, capability, form.num_queries, form.tile
        )
    except Exception as error:  # Triton has errors of its own
        return f"{form}: {type(error).__name__}: {error}"
    return f"{form}: {code.registers} registers, {code.spilled_bytes} bytes spilled"


def main(stage: Stage) -> None:
    major, minor = torch.cuda.get_device_capability(stage.device)
    num_processes = max(1, min(MOST_PROCESSES, (os.cpu_count() or 1) // 2))
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as pool:
        running = [pool.submit(compiled, form, 10 * major + minor) for form in forms(stage)]
        for one in running:
            sys.stdout.write(f"{one.result()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Stage.of("compiled", sys.argv[1:]))
