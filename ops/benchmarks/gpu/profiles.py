"""Where the time of a step and of a group of Mimi goes: kernels, by the profiler of torch."""

import sys
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from nightscribe.benchmarks.machine_speed import release_memory, step_runner
from nightscribe.benchmarks.measurements import fill_memory, one_chunk, round_of, synchronize
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.benchmarks.report import Table
from nightscribe.model.device import dtype_of
from nightscribe.model.step_runner import StepRunner
from ops.benchmarks.gpu.stage import Stage

NUM_STEPS = 5
MOST_ROWS = 30
STEP, GROUP = "a step", "a group of Mimi"


def main(stage: Stage) -> None:
    for size in stage.sizes:
        stage.measure(f"profile of {size}", _tables, stage, size)


def _tables(stage: Stage, size: str):
    num_slots = 256 if stage.is_cuda else 2
    dtype = dtype_of("auto", stage.device)
    speech = random_speech(config_of(size), stage.device, dtype)
    model = step_runner(speech, num_slots, dtype)
    fill_memory(model)
    context = speech.config.language_model.context
    steps = round_of(model, num_slots, context, NUM_STEPS)
    yield kernel_table(f"{STEP}, {size}", steps, NUM_STEPS, stage.device)
    if size == stage.sizes[0]:  # Mimi is the same in all
        yield kernel_table(GROUP, _encode(model, num_slots), 1, stage.device)
    del model
    release_memory(stage.device)


def _encode(model: StepRunner, num_slots: int) -> Callable[[], object]:
    chunk = one_chunk(model, 25, min(num_slots, 64))
    return lambda: model.encode(chunk)


def kernel_table(
    what: str, action: Callable[[], object], num_parts: int, device: torch.device
) -> Table:
    """The kernels (on a CPU: operators) that take longest, per part of the action."""
    action()
    synchronize(device)
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CUDA] if is_cuda else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiled:
        action()
        synchronize(device)
    attribute = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    found = [(one.key, one.count, getattr(one, attribute)) for one in profiled.key_averages()]
    found = sorted((one for one in found if one[2] > 0), key=lambda one: -one[2])
    total_us, num_calls = sum(us for *_, us in found), sum(count for _, count, _ in found)
    rows = [
        (_short(name), count / num_parts, us / num_parts, 100 * us / total_us)
        for name, count, us in found[:MOST_ROWS]
    ]
    rows.append(("all", num_calls / num_parts, total_us / num_parts, 100.0))
    return Table(title=f"Kernels of {what}", columns=("kernel", "calls", "us", "%"), rows=rows)


def _short(name: str) -> str:
    """A table's cell: no bars, not too long."""
    return name.replace("|", "/").replace("\n", " ")[:100]


if __name__ == "__main__":
    running = Stage.of("profiles", sys.argv[1:])
    main(running)
    running.end()
