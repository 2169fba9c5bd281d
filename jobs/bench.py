"""`nightscribe bench`: measure the speed of this machine, beside the reference implementations.

Everything is measured in one process, in turns, with random weights. The tables are printed and,
with the machine and the versions, written to a file.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nightscribe.benchmarks.clips import measure_clips
from nightscribe.benchmarks.codec import measure_codec
from nightscribe.benchmarks.growth import measure_growth
from nightscribe.benchmarks.machine import conditions, file_name
from nightscribe.benchmarks.queueing import measure_queue
from nightscribe.benchmarks.random_weights import random_speech
from nightscribe.benchmarks.side_by_side import OTHERS, Terms
from nightscribe.benchmarks.sizes import SIZES, config_of
from nightscribe.benchmarks.steps import measure_steps
from nightscribe.benchmarks.suite import SuiteTerms, measure_suite
from nightscribe.benchmarks.table import Table
from nightscribe.jobs.shell.config import Job
from nightscribe.model.device import DTYPES, device_of, dtype_of, name_of
from nightscribe.model.step_runner import SteppingModel
from nightscribe.options import check_options, option

ROUND_STEPS = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """Measure the speed of this machine with random weights, beside the reference."""

    what: str = option(
        "auto",
        "what to measure: a step of the model, Mimi, whole clips, a queue of clips of mixed "
        "lengths, a long recording (growth), or the suite for a GPU; auto: the suite on a GPU, "
        "else a step",
        choices=("auto", "step", "mimi", "clips", "queue", "growth", "suite"),
    )
    size: str = option("small", "size of the models", choices=SIZES)
    device: str = option("cpu", "cpu, cuda or cuda:1")
    dtype: str = option("auto", "precision of the language model", choices=("auto", *DTYPES))
    num_slots: list[int] = option([1, 8, 32], "batch sizes to measure")
    num_layers: int = option(0, "layers of the language model; 0: as many as the size has")
    history: int | None = option(
        None, "frames already in the KV cache at a measured step; null: a full context"
    )
    num_steps: int = option(10, "steps per measurement", minimum=1)
    num_frames: int = option(
        25, "frames of a clip; for a queue, frames of a clip on average", minimum=1
    )
    num_clips: int = option(400, "clips of a queue", minimum=1)
    factor: int = option(10, "how many times longer the long recording is", minimum=1)
    repeats: int = option(5, "timed repetitions of each measurement", minimum=1)
    num_threads: int = option(1, "CPU threads", minimum=1)
    peers: list[str] = option(list(OTHERS), "implementations to compare with")
    folder: str = option(".", "folder for the result file")

    def __post_init__(self) -> None:
        check_options(self)
        if not self.num_slots or min(self.num_slots) < 1:
            raise ValueError(f"num_slots must be positive numbers, got {list(self.num_slots)}")
        unknown = [peer for peer in self.peers if peer not in OTHERS]
        if unknown:
            raise ValueError(f"there is no peer {unknown[0]}; there are {', '.join(OTHERS)}")


def run_bench(bench: BenchConfig) -> int:
    torch.set_num_threads(bench.num_threads)
    device = device_of(bench.device)
    what = bench.what
    if what == "auto":
        what = "suite" if device.type == "cuda" else "step"
    lines = conditions(device)
    Path(bench.folder).mkdir(parents=True, exist_ok=True)
    tables = _MEASUREMENTS[what](bench, device)
    _report(bench, what, lines, tables)
    return 0


def _step(bench: BenchConfig, device: torch.device) -> list[Table]:
    config = config_of(bench.size, bench.num_layers)
    history = config.language_model.context if bench.history is None else bench.history
    return [measure_steps(config, _terms(bench, device), history, bench.num_steps)]


def _mimi(bench: BenchConfig, device: torch.device) -> list[Table]:
    config = config_of(bench.size, bench.num_layers)
    return [measure_codec(config, _terms(bench, device), bench.num_frames)]


def _clips(bench: BenchConfig, device: torch.device) -> list[Table]:
    config = config_of(bench.size, bench.num_layers)
    return [measure_clips(config, _terms(bench, device), bench.num_frames)]


def _queue(bench: BenchConfig, device: torch.device) -> list[Table]:
    model, num_slots = _slotted(bench, device), max(bench.num_slots)
    return [measure_queue(model, num_slots, bench.num_clips, bench.num_frames, bench.repeats)]


def _growth(bench: BenchConfig, device: torch.device) -> list[Table]:
    model = _slotted(bench, device)
    return [measure_growth(model, bench.num_frames, bench.factor, bench.repeats, device)]


def _suite(bench: BenchConfig, device: torch.device) -> list[Table]:
    if device.type != "cuda" and bench.size != "toy":
        raise ValueError("the suite is for a GPU; on a CPU its code can be tried with size=toy")
    sizes = ["toy"] if bench.size == "toy" else ["1b", "2.6b"]
    suite = measure_suite(SuiteTerms.of(sizes, device))
    if suite.measurements:  # `nightscribe plan` reads them
        path = Path(bench.folder) / file_name("suite", device, "json")
        path.write_text(json.dumps(suite.measurements, indent=2) + "\n")
    return suite.tables


def _terms(bench: BenchConfig, device: torch.device) -> Terms:
    return Terms(
        device=device,
        dtype=dtype_of(bench.dtype, device),
        num_slots=tuple(bench.num_slots),
        peers=tuple(bench.peers),
        repeats=bench.repeats,
    )


def _slotted(bench: BenchConfig, device: torch.device) -> SteppingModel:
    speech = random_speech(
        config_of(bench.size, bench.num_layers), device, dtype_of(bench.dtype, device)
    )
    return SteppingModel(speech, max(bench.num_slots), ROUND_STEPS)


_MEASUREMENTS: dict[str, Callable[[BenchConfig, torch.device], list[Table]]] = {
    "step": _step,
    "mimi": _mimi,
    "clips": _clips,
    "queue": _queue,
    "growth": _growth,
    "suite": _suite,
}


def _report(bench: BenchConfig, what: str, lines: list[str], tables: list[Table]) -> None:
    """Print the tables, and write them to a file with the conditions of the measurement."""
    text = "\n".join(table.markdown() for table in tables)
    command = f"nightscribe bench {' '.join(_words(bench))}"
    device = device_of(bench.device)
    measured = what, bench.size, name_of(dtype_of(bench.dtype, device))
    path = Path(bench.folder) / file_name("-".join(measured), device)
    header = "\n".join(f"- {line}" for line in lines)
    path.write_text(f"# {', '.join(measured)}\n\n`{command}`\n\n{header}\n\n{text}")
    sys.stdout.write(f"{text}\n{path}\n")


def _words(bench: BenchConfig) -> list[str]:
    """The words of the command line that differ from the defaults."""
    default = BenchConfig()
    names = [name for name in BenchConfig.__dataclass_fields__ if name != "folder"]
    given = {name: getattr(bench, name) for name in names}
    return [
        f"{name}={json.dumps(value, separators=(',', ':')) if isinstance(value, list) else value}"
        for name, value in given.items()
        if value != getattr(default, name)
    ]


JOB = Job(name="bench", config=BenchConfig, run=run_bench)
