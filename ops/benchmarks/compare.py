"""Compares Nightscribe with moshi and transformers, or with itself, in one process and in turns.

    python -m ops.benchmarks.compare what=step size=small num_slots=[1,8,32]

The weights are random. The tables are written to the terminal and, with the machine and the
versions, to a file.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nightscribe.benchmarks.random_weights import SIZES, config_of, random_speech
from nightscribe.benchmarks.report import Table, conditions, file_name
from nightscribe.model.device import DTYPES, device_of, dtype_of, name_of
from nightscribe.model.step_runner import StepRunner
from ops.benchmarks.clips import measure_clips
from ops.benchmarks.codec import measure_codec
from ops.benchmarks.growth import measure_growth
from ops.benchmarks.queueing import measure_queue
from ops.benchmarks.side_by_side import OTHERS, Setup
from ops.benchmarks.steps import measure_steps

ROUND_STEPS = 25
BAD_INPUT = 2


@dataclass(kw_only=True, slots=True)
class CompareConfig:
    """What is compared; written as key=value words."""

    what: str = "step"  # of MEASUREMENTS
    size: str = "small"  # of the model
    device: str = "cpu"
    dtype: str = "auto"  # of the language model
    num_slots: list[int] = field(default_factory=lambda: [1, 8, 32])
    num_layers: int = 0  # 0: as many as the size has
    history: int | None = None  # position of the streams of a step; null: a full KV cache
    num_steps: int = 10  # per turn
    num_frames: int = 25  # of a clip; of a queue's clips on average
    num_clips: int = 400  # of a queue
    factor: int = 10  # length of the long recording, in short ones
    repeats: int = 5  # turns that are timed
    num_threads: int = 1
    peers: list[str] = field(default_factory=lambda: list(OTHERS))
    folder: str = "."  # for the file with the result

    def __post_init__(self) -> None:
        _check_choice("what", self.what, MEASUREMENTS)
        _check_choice("size", self.size, SIZES)
        _check_choice("dtype", self.dtype, ("auto", *DTYPES))
        if not self.num_slots or min(self.num_slots) < 1:
            raise ValueError(f"num_slots must be positive numbers, got {list(self.num_slots)}")
        unknown = [peer for peer in self.peers if peer not in OTHERS]
        if unknown:
            raise ValueError(f"peers are {', '.join(OTHERS)}; there is no {unknown[0]}")
        for name in ("num_steps", "num_frames", "num_clips", "factor", "repeats", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


def _check_choice(key: str, value: str, choices: Sequence[str] | dict) -> None:
    if value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, got {value}")


def compare(config: CompareConfig) -> None:
    torch.set_num_threads(config.num_threads)
    device = device_of(config.device)
    lines = conditions(device)
    tables = MEASUREMENTS[config.what](config, device)
    _write(config, device, lines, tables)


def _step(config: CompareConfig, device: torch.device) -> list[Table]:
    model = config_of(config.size, config.num_layers)
    history = model.language_model.context if config.history is None else config.history
    return [measure_steps(model, _setup(config, device), history, config.num_steps)]


def _mimi(config: CompareConfig, device: torch.device) -> list[Table]:
    model = config_of(config.size, config.num_layers)
    return [measure_codec(model, _setup(config, device), config.num_frames)]


def _clips(config: CompareConfig, device: torch.device) -> list[Table]:
    model = config_of(config.size, config.num_layers)
    return [measure_clips(model, _setup(config, device), config.num_frames)]


def _queue(config: CompareConfig, device: torch.device) -> list[Table]:
    model, num_slots = _runner(config, device), max(config.num_slots)
    return [measure_queue(model, num_slots, config.num_clips, config.num_frames, config.repeats)]


def _growth(config: CompareConfig, device: torch.device) -> list[Table]:
    model = _runner(config, device)
    return [measure_growth(model, config.num_frames, config.factor, config.repeats, device)]


MEASUREMENTS: dict[str, Callable[[CompareConfig, torch.device], list[Table]]] = {
    "step": _step,
    "mimi": _mimi,
    "clips": _clips,
    "queue": _queue,
    "growth": _growth,
}


def _setup(config: CompareConfig, device: torch.device) -> Setup:
    return Setup(
        device=device,
        dtype=dtype_of(config.dtype, device),
        num_slots=tuple(config.num_slots),
        peers=tuple(config.peers),
        repeats=config.repeats,
    )


def _runner(config: CompareConfig, device: torch.device) -> StepRunner:
    model = config_of(config.size, config.num_layers)
    speech = random_speech(model, device, dtype_of(config.dtype, device))
    return StepRunner(speech, max(config.num_slots), ROUND_STEPS)


def _write(
    config: CompareConfig, device: torch.device, lines: list[str], tables: list[Table]
) -> None:
    """The tables to the terminal; the same with the command and the conditions to a file."""
    text = "\n".join(table.markdown() for table in tables)
    command = f"python -m ops.benchmarks.compare {' '.join(_changed_words(config))}"
    measured = config.what, config.size, name_of(dtype_of(config.dtype, device))
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name("-".join(measured), device)
    header = "\n".join(f"- {line}" for line in lines)
    path.write_text(f"# {', '.join(measured)}\n\n`{command}`\n\n{header}\n\n{text}")
    sys.stdout.write(f"{text}\n{path}\n")


def _changed_words(config: CompareConfig) -> list[str]:
    """The words of the command line that differ from the defaults."""
    usual = CompareConfig()
    names = [one.name for one in fields(CompareConfig) if one.name != "folder"]
    values = {name: getattr(config, name) for name in names}
    return [
        f"{name}={json.dumps(value, separators=(',', ':')) if isinstance(value, list) else value}"
        for name, value in values.items()
        if value != getattr(usual, name)
    ]


def parsed(words: list[str]) -> CompareConfig:
    schema = OmegaConf.structured(CompareConfig)
    config: Any = OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.from_dotlist(words)))
    return config


def main() -> None:
    """Exit code 2, with one sentence, for words that cannot be right."""
    try:
        compare(parsed(sys.argv[1:]))
    except (ValueError, OmegaConfBaseException) as error:
        sentence = str(error).splitlines()[0]
        sys.stderr.write(f"compare: {sentence}\n")
        sys.exit(BAD_INPUT)
    sys.exit(0)


if __name__ == "__main__":
    main()
