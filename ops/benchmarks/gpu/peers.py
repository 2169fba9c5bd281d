"""transformers and moshi on the same device, with the same random weights, at every batch size."""

import sys
from collections.abc import Iterator
from dataclasses import replace

from nightscribe.benchmarks.machine_speed import release_memory
from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.report import Table
from nightscribe.model.device import dtype_of
from ops.benchmarks.clips import measure_clips
from ops.benchmarks.gpu.stage import Stage
from ops.benchmarks.side_by_side import OTHERS, Setup
from ops.benchmarks.steps import measure_steps

# Of each size what fits three times: ours, theirs, and a copy that grows.
NUM_SLOTS = {"1b": (8, 64, 256), "2.6b": (8, 64)}
NUM_STEPS, NUM_FRAMES, REPEATS = 10, 50, 3
STEPS, CLIPS = "A step, side by side", "Whole clips, side by side"


def main(stage: Stage) -> None:
    for size in stage.sizes:
        for num_slots in NUM_SLOTS.get(size, (2,)):
            stage.measure(f"a step of {size} over {num_slots}", _steps, stage, size, num_slots)
    for size in stage.sizes:
        stage.measure(f"clips of {size}", _clips, stage, size)


def _steps(stage: Stage, size: str, num_slots: int) -> Iterator[Table]:
    config = config_of(size)
    history = config.language_model.context
    num_steps = NUM_STEPS if stage.is_cuda else 1
    table = measure_steps(config, _setup(stage, num_slots), history, num_steps)
    release_memory(stage.device)
    yield replace(table, title=f"{STEPS}: {size}, {num_slots} slots")


def _clips(stage: Stage, size: str) -> Iterator[Table]:
    num_slots = 64 if stage.is_cuda else 2
    num_frames = NUM_FRAMES if stage.is_cuda else 2
    table = measure_clips(config_of(size), _setup(stage, num_slots), num_frames)
    release_memory(stage.device)
    yield replace(table, title=f"{CLIPS}: {size}, {num_slots} clips")


def _setup(stage: Stage, num_slots: int) -> Setup:
    return Setup(
        device=stage.device,
        dtype=dtype_of("auto", stage.device),
        num_slots=(num_slots,),
        peers=OTHERS,
        repeats=REPEATS if stage.is_cuda else 1,
    )


if __name__ == "__main__":
    running = Stage.of("peers", sys.argv[1:])
    main(running)
    running.end()
