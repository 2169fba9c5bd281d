"""CPU time of two checkouts of the engine in turns: what a change costs or gains on a CPU.

    python -m ops.benchmarks.checkouts OTHER_CHECKOUT PROCESSES [MEASUREMENT...]

Processes of one checkout differ by 15 %, by where their memory lies. So each process has the code
and models of both checkouts and measures them in turns, and is one sample of the ratio; processes
are forked, so that none imports anything. Random weights of the size `small` in float32, one
thread.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, median, stdev
from time import process_time
from types import ModuleType

HISTORY, NUM_STEPS = 200, 25
CLIP_FRAMES, NUM_CLIPS, CODEC_FRAMES = 12, 8, 8
REPEATS = 5
# Of steps, which take the codes from memory: quickly made.
UNUSED_MIMI = {"num_filters": 4, "seanet_dim": 32, "dim": 32, "num_heads": 4, "num_layers": 2}
PACKAGES = ("nightscribe", "ops")
STANDARD_ERRORS = 2.1  # of 95 %, for about twenty processes

Measure = Callable[[], object]


class Checkout:
    """The code of a folder, beside that of others in one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def code(self) -> Iterator[None]:
        """Imports inside are of this checkout, also those that a function makes when called."""
        outside = {name: sys.modules.pop(name) for name in _ours()}
        sys.modules.update(self._modules)
        sys.path.insert(0, self._folder)
        try:
            yield
        finally:
            self._modules = {name: sys.modules.pop(name) for name in _ours()}
            sys.path.remove(self._folder)
            sys.modules.update(outside)

    def load(self) -> None:
        with self.code():
            for name in ("nightscribe.model.step_runner", "ops.benchmarks.queueing"):
                import_module(name)
            _measurements()

    def action(self, name: str) -> Measure:
        with self.code():
            return ACTIONS[name]()

    def seconds_of(self, action: Measure) -> float:
        with self.code():
            began_s = process_time()
            action()
            return process_time() - began_s


def _ours() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in PACKAGES]


def _measurements() -> ModuleType:
    """Under the name that it has in the checkout."""
    try:
        return import_module("nightscribe.benchmarks.measurements")
    except ModuleNotFoundError:
        return import_module("nightscribe.benchmarks.step_curve")


def _runner(num_slots: int, **mimi: int):
    """With a Mimi of the published size, but for what is given."""
    import torch

    from nightscribe.benchmarks.random_weights import config_of, random_speech
    from nightscribe.model.step_runner import StepRunner

    torch.set_num_threads(1)
    config = config_of("small")
    config = replace(config, mimi=replace(config.mimi, **mimi))
    return StepRunner(
        random_speech(config, torch.device("cpu"), torch.float32), num_slots, NUM_STEPS
    )


def _steps(num_slots: int) -> Measure:
    model, measurements = _runner(num_slots, **UNUSED_MIMI), _measurements()
    measurements.fill_memory(model)
    return measurements.round_of(model, num_slots, HISTORY, NUM_STEPS)


def _codec() -> Measure:
    model, measurements = _runner(1), _measurements()
    return partial(model.encode, measurements.one_chunk(model, CODEC_FRAMES))


def _clips() -> Measure:
    from nightscribe.engine.stream import Stream

    queueing, model = import_module("ops.benchmarks.queueing"), _runner(NUM_CLIPS)
    noise_N = _measurements().noise(CLIP_FRAMES * model.frame_samples)
    streams = [Stream(index, noise_N, CLIP_FRAMES) for index in range(NUM_CLIPS)]
    return partial(queueing._run_refilled, queueing.step_engine(model), streams)


ACTIONS: dict[str, Callable[[], Measure]] = {
    "step over 1": partial(_steps, 1),
    "step over 8": partial(_steps, 8),
    "step over 32": partial(_steps, 32),
    "codec": _codec,
    "clips": _clips,
}


def least_of_each(checkouts: Sequence[Checkout], name: str) -> list[float]:
    """The least time of each checkout, in the order given; they are asked in turns."""
    actions = [checkout.action(name) for checkout in checkouts]
    pairs = list(zip(checkouts, actions, strict=True))
    turns = [[one.seconds_of(action) for one, action in pairs] for _ in range(REPEATS + 1)]
    return [min(times) for times in zip(*turns[1:], strict=True)]


def in_a_fork(measure: Callable[[], list[float]]) -> list[float]:
    """What it measures in a process with memory of its own."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        with os.fdopen(writing, "w") as answer:
            json.dump(measure(), answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(process, 0)
    return json.loads(text)


def ratio_with_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean, and the ends of its 95 % interval."""
    logs = [log(ratio) for ratio in ratios]
    middle, error = fmean(logs), STANDARD_ERRORS * stdev(logs) / sqrt(len(logs))
    return exp(middle), exp(middle - error), exp(middle + error)


def main(other: str, num_processes: str, *names: str) -> None:
    checkouts = [Checkout(Path(other).resolve()), Checkout(Path.cwd())]
    for checkout in checkouts:
        checkout.load()
    _write("| measured | other, ms | this one, ms | times as fast | 95 % | least, most |")
    _write("|---|--:|--:|--:|--:|--:|")
    for name in names or ACTIONS:
        _write(row_of(name, list(samples(checkouts, name, int(num_processes)))))


def samples(checkouts: list[Checkout], name: str, count: int) -> Iterator[tuple[float, float]]:
    """Times of the other and of this checkout; every second process begins with this one."""
    for index in range(count):
        order = slice(None, None, -1 if index % 2 else 1)
        times = in_a_fork(partial(least_of_each, checkouts[order], name))
        theirs, ours = times[order]
        yield theirs, ours


def row_of(name: str, times: Sequence[tuple[float, float]]) -> str:
    ratios = sorted(theirs / ours for theirs, ours in times)
    middle, low, high = ratio_with_interval(ratios)
    theirs_ms, ours_ms = (1e3 * median(column) for column in zip(*times, strict=True))
    cells = f"{theirs_ms:.1f} | {ours_ms:.1f} | {middle:.3f} | {low:.3f}-{high:.3f}"
    return f"| {name} | {cells} | {ratios[0]:.2f}, {ratios[-1]:.2f} |"


def _write(line: str) -> None:
    """At once: a run may be cut short."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
