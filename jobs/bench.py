"""`nightscribe bench`: how fast this machine transcribes with a model.

Measured with random weights of the model's sizes, so nothing is downloaded for a published model.
The tables go to the terminal and to a file; a GPU's speed goes to a second file that
`nightscribe plan` and `nightscribe doctor` read.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import MISSING

from nightscribe.benchmarks.machine_speed import (
    BenchLimits,
    ModelSpeed,
    curve_table,
    summary_table,
    throughput_table,
)
from nightscribe.benchmarks.measurements import copy_bytes_per_s
from nightscribe.benchmarks.random_weights import random_speech
from nightscribe.benchmarks.report import Table, conditions, file_name
from nightscribe.jobs.shell.config import Job
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.device import (
    CACHE_DTYPES,
    DTYPES,
    cache_dtype_of,
    device_of,
    dtype_of,
    name_of,
)
from nightscribe.options import check_options, group, option
from nightscribe.survey.costs import USER_RESULTS


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """Measure how fast this machine transcribes with a model."""

    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "which model")
    device: str = option("auto", "cpu, cuda or cuda:1; auto: the first GPU, else the CPU")
    dtype: str = option("auto", "precision of the language model", choices=("auto", *DTYPES))
    kv_cache_dtype: str = option(
        "auto", "precision of the KV cache", choices=("auto", *CACHE_DTYPES)
    )
    num_threads: int | None = option(None, "CPU threads; null: as many as torch chooses", minimum=1)
    bench_results: str = option(USER_RESULTS, "folder to write the results to")

    def __post_init__(self) -> None:
        check_options(self)


def run_bench(bench: BenchConfig) -> int:
    if bench.num_threads is not None:
        torch.set_num_threads(bench.num_threads)
    device = device_of(bench.device)
    config, dtype = _sizes(bench.model), dtype_of(bench.dtype, device)
    cache_dtype = cache_dtype_of(bench.kv_cache_dtype, dtype, device)
    lines = conditions(device)
    bandwidth = copy_bytes_per_s(device)
    speed = ModelSpeed(model=bench.model.name)
    speed.measure(random_speech(config, device, dtype), cache_dtype, BenchLimits.of(device))
    cache = name_of(cache_dtype)
    tables = [
        curve_table([speed], bandwidth),
        throughput_table([speed]),
        summary_table([speed], device, cache, bandwidth),
    ]
    _write(bench, device, lines, tables)
    if device.type == "cuda":
        _write_record(bench, speed.record(device, cache) | {"dtype": name_of(dtype)}, device)
    return 0


def _sizes(model: ModelConfig) -> SpeechToTextConfig:
    return PUBLISHED[model.name] if model.name in PUBLISHED else open_model(model).config


def _write(bench: BenchConfig, device: torch.device, lines: list[str], tables: list[Table]) -> None:
    """The tables to the terminal; the same with the command and the conditions to a file."""
    text = "\n".join(table.markdown() for table in tables)
    path = _path(bench, device, "md")
    header = "\n".join(f"- {line}" for line in lines)
    path.write_text(f"# {path.stem}\n\n`{_command(bench)}`\n\n{header}\n\n{text}")
    sys.stdout.write(f"{text}\n{path}\n")


def _write_record(bench: BenchConfig, record: dict[str, object], device: torch.device) -> None:
    path = _path(bench, device, "json")
    path.write_text(json.dumps([record], indent=2) + "\n")
    sys.stdout.write(f"{path}\n")


def _path(bench: BenchConfig, device: torch.device, ending: str) -> Path:
    folder = Path(bench.bench_results).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    measured = (
        "bench",
        bench.model.name,
        name_of(dtype_of(bench.dtype, device)),
        bench.kv_cache_dtype,
    )
    return folder / file_name("-".join(measured), device, ending)


def _command(bench: BenchConfig) -> str:
    """The command line that repeats this measurement."""
    keys = ("device", "dtype", "kv_cache_dtype", "num_threads")
    usual = BenchConfig()
    changed = {
        key: getattr(bench, key) for key in keys if getattr(bench, key) != getattr(usual, key)
    }
    words = [f"model={bench.model.name}", *(f"{key}={value}" for key, value in changed.items())]
    return f"nightscribe bench {' '.join(words)}"


JOB = Job(name="bench", config=BenchConfig, run=run_bench)
