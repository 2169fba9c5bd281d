"""A step by number of slots, every KV cache full."""

import sys
from dataclasses import replace

from nightscribe.benchmarks.machine_speed import BenchLimits, ModelSpeed, curve_table
from nightscribe.benchmarks.measurements import copy_bytes_per_s
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.benchmarks.report import Table
from nightscribe.model.device import dtype_of
from ops.benchmarks.gpu.stage import Stage

MAX_SLOTS = 512


def main(stage: Stage) -> None:
    bandwidth = copy_bytes_per_s(stage.device)
    for size in stage.sizes:
        stage.measure(f"curve of {size}", _table, stage, size, bandwidth)


def _table(stage: Stage, size: str, bandwidth: float) -> Table:
    dtype = dtype_of("auto", stage.device)
    limits = BenchLimits(
        device=stage.device,
        max_slots=MAX_SLOTS if stage.is_cuda else 16,
        num_rounds=3 if stage.is_cuda else 1,
    )
    speed = ModelSpeed(model=size)
    speed.measure_steps(random_speech(config_of(size), stage.device, dtype), dtype, limits)
    table = curve_table([speed], bandwidth)
    return replace(table, title=f"{table.title}: {size}")


if __name__ == "__main__":
    running = Stage.of("curve", sys.argv[1:])
    main(running)
    running.end()
