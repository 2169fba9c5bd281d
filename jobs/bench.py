"""`nightscribe bench`: how fast this is on this machine, beside the reference implementations.

Everything is measured in one process, in turns, with random weights. The tables are written to the
terminal and, with the machine and the versions, to a file.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
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

ROUND_STEPS = 25


@dataclass(kw_only=True, slots=True)
class BenchConfig:
    """Measure speed on this machine."""

    what: str = field(
        default="auto",
        metadata={
            "help": "a step, Mimi, whole clips, a queue of mixed lengths, a long recording, or the "
            "suite for a GPU; auto is the suite on a GPU, else a step",
            "choices": ("auto", "step", "mimi", "clips", "queue", "growth", "suite"),
        },
    )
    size: str = field(default="small", metadata={"help": "of the models", "choices": SIZES})
    device: str = field(default="cpu", metadata={"help": "cpu, cuda or cuda:1"})
    dtype: str = field(
        default="auto",
        metadata={"help": "numbers of the language model", "choices": ("auto", *DTYPES)},
    )
    num_slots: list[int] = field(
        default_factory=lambda: [1, 8, 32], metadata={"help": "streams side by side"}
    )
    num_layers: int = field(default=0, metadata={"help": "layers; 0: as many as the size has"})
    history: int | None = field(
        default=None,
        metadata={"help": "frames that the streams of a step have heard; null: a full window"},
    )
    num_steps: int = field(default=10, metadata={"help": "steps of a turn"})
    num_frames: int = field(
        default=25, metadata={"help": "frames of a clip, or of a queue's clips on average"}
    )
    num_clips: int = field(default=400, metadata={"help": "clips of a queue"})
    factor: int = field(default=10, metadata={"help": "how much longer the long recording is"})
    repeats: int = field(default=5, metadata={"help": "turns that are timed"})
    num_threads: int = field(default=1, metadata={"help": "processor cores"})
    peers: list[str] = field(
        default_factory=lambda: list(OTHERS), metadata={"help": "whom to compare with"}
    )
    folder: str = field(default=".", metadata={"help": "where the file with the result goes"})

    def __post_init__(self) -> None:
        if not self.num_slots or min(self.num_slots) < 1:
            raise ValueError(f"num_slots must be positive numbers, got {list(self.num_slots)}")
        unknown = [peer for peer in self.peers if peer not in OTHERS]
        if unknown:
            raise ValueError(f"peers are {', '.join(OTHERS)}; there is no {unknown[0]}")
        for name in ("num_steps", "num_frames", "num_clips", "factor", "repeats", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


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
    """Write the tables to the terminal, and all that is known to a file."""
    told = "\n".join(table.markdown() for table in tables)
    command = f"nightscribe bench {' '.join(_words(bench))}"
    device = device_of(bench.device)
    measured = what, bench.size, name_of(dtype_of(bench.dtype, device))
    path = Path(bench.folder) / file_name("-".join(measured), device)
    header = "\n".join(f"- {line}" for line in lines)
    path.write_text(f"# {', '.join(measured)}\n\n`{command}`\n\n{header}\n\n{told}")
    sys.stdout.write(f"{told}\n{path}\n")


def _words(bench: BenchConfig) -> list[str]:
    """What was said on the command line that is not said without it."""
    usual = BenchConfig()
    names = [name for name in BenchConfig.__dataclass_fields__ if name != "folder"]
    said = {name: getattr(bench, name) for name in names}
    return [
        f"{name}={json.dumps(value, separators=(',', ':')) if isinstance(value, list) else value}"
        for name, value in said.items()
        if value != getattr(usual, name)
    ]


JOB = Job(name="bench", config=BenchConfig, run=run_bench)
