"""CPU time of two checkouts of the engine in turns: what a change costs or gains on a CPU.

    python -m ops.benchmarks.checkouts OTHER_CHECKOUT TURNS

Each checkout has a process of its own, and both are asked in turns for one measurement after the
other: a round of 25 steps over 1 and 8 slots, clips together, and a queue of clips of many lengths,
with random weights of the size `small` in float32 on one thread.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from time import process_time

HISTORY, NUM_STEPS = 200, 25
NUM_SLOTS, CLIP_FRAMES, QUEUE_FRAMES, NUM_QUEUED = 8, 25, 6, 40
MEASUREMENTS = ("a step over 1", "a step over 8", "clips", "queue")
ANSWER = "processor seconds "


def serve() -> None:
    """Measure what each line of the input names."""
    actions = _actions()
    for line in sys.stdin:
        action = actions[line.strip()]
        began_s = process_time()
        action()
        sys.stdout.write(f"{ANSWER}{process_time() - began_s}\n")
        sys.stdout.flush()


def _actions() -> dict[str, Callable]:
    import torch

    from nightscribe.benchmarks.random_weights import config_of, random_speech
    from nightscribe.model.step_runner import StepRunner

    torch.set_num_threads(1)
    measurements, queueing = (
        _module("measurements", "step_curve"),
        import_module("ops.benchmarks.queueing"),
    )
    config, cpu = config_of("small"), torch.device("cpu")
    actions: dict[str, Callable] = {}
    for num_slots in (1, NUM_SLOTS):
        model = StepRunner(random_speech(config, cpu, torch.float32), num_slots, NUM_STEPS)
        measurements.fill_memory(model)
        steps = measurements.round_of(model, num_slots, HISTORY, NUM_STEPS)
        actions[f"a step over {num_slots}"] = steps
    engine = queueing.step_engine(model)
    lengths = [CLIP_FRAMES] * NUM_SLOTS
    clips = list(_streams(lengths, model.frame_samples, measurements.noise))
    queue = queueing.queue(model.frame_samples, NUM_QUEUED, QUEUE_FRAMES)
    for name, streams in (("clips", clips), ("queue", queue)):
        actions[name] = partial(queueing._run_refilled, engine, streams)
    return actions


def _streams(lengths: list[int], frame_samples: int, noise: Callable) -> Iterator:
    from nightscribe.engine.stream import Stream

    for index, length in enumerate(lengths):
        yield Stream(index, noise(length * frame_samples), length)


def _module(*names: str):
    """Of the names that it had in older checkouts, the first that is there."""
    for name in names:
        try:
            return import_module(f"nightscribe.benchmarks.{name}")
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(names[0])


class Checkout:
    """A process that measures the code of a checkout."""

    def __init__(self, folder: Path) -> None:
        own = Path(__file__).read_text()
        code = f"{own.split(MAIN)[0]}\nserve()\n"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            env={"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, name: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return float(line.removeprefix(ANSWER))
        raise RuntimeError(f"the checkout could not measure {name}")

    def close(self) -> None:
        self._process.communicate()


def main(other: str, turns: str) -> None:
    checkouts = Checkout(Path(other).resolve()), Checkout(Path.cwd())
    _write(
        "| measured | other, ms | this one, ms | times as fast, minima | medians |",
        "|---|--:|--:|--:|--:|",
    )
    for name in MEASUREMENTS:
        times = [[checkout.measure(name) for checkout in checkouts] for _ in range(int(turns) + 1)]
        theirs, ours = zip(*times[1:], strict=True)
        ratios = min(theirs) / min(ours), median(theirs) / median(ours)
        cells = f"{1e3 * min(theirs):.1f} | {1e3 * min(ours):.1f}"
        _write(f"| {name} | {cells} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    for checkout in checkouts:
        checkout.close()


def _write(*lines: str) -> None:
    """At once: a run may be cut short."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


MAIN = "\nMAIN = "
if __name__ == "__main__":
    main(*sys.argv[1:])
