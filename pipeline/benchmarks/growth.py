"""What a long recording costs beside a short one: time, memory of the device and of the host."""

import gc
import resource
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
import torch

from nightscribe.benchmarks.rounds import noise
from nightscribe.benchmarks.table import Table
from nightscribe.benchmarks.timing import Spent, timed
from nightscribe.engine.interface import StepModel
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream

COLUMNS = (
    "turn",
    "short s",
    "long s",
    "times the short one's",
    "of processor time",
    "more host MB",
    "more device MB",
)


@dataclass(frozen=True, slots=True)
class EndlessNoise:
    """Samples that are made when they are cut: a recording that no memory holds."""

    period_N: np.ndarray
    num_samples: int

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(self.num_samples)
        # Not numpy's own wrapping, which takes as many steps as there were periods before.
        return self.period_N[np.arange(start, stop) % len(self.period_N)]


def stream_of(frame_samples: int, num_frames: int) -> Stream:
    sound = EndlessNoise(noise(100 * frame_samples + 1), num_frames * frame_samples)
    return Stream(num_frames, sound, num_frames)


@dataclass(frozen=True, slots=True)
class Listened:
    """What hearing one stream took, and how much more memory is held or was needed after it."""

    num_frames: int
    spent: Spent
    host_bytes: int
    device_bytes: int


def listen(model: StepModel, num_frames: int, device: torch.device) -> Listened:
    """Hear one stream of so many frames in one slot."""
    gc.collect()
    host, on_device = _peak_bytes(), _device_bytes(device)
    stream = stream_of(model.frame_samples, num_frames)
    engine = step_engine(model)
    spent = timed(lambda: [None for _ in engine.run([stream])], device)
    return Listened(num_frames, spent, _peak_bytes() - host, _device_bytes(device) - on_device)


@dataclass(frozen=True, slots=True)
class Turn:
    """A long stream amid short ones that together are as long."""

    short: list[Listened]
    long: Listened

    def cells(self) -> tuple[float, ...]:
        """Under `COLUMNS`, after the first."""
        short_s = mean(one.spent.wall_s for one in self.short)
        short_processor_s = mean(one.spent.processor_s for one in self.short)
        return (
            short_s,
            self.long.spent.wall_s,
            self.long.spent.wall_s / short_s,
            self.long.spent.processor_s / short_processor_s,
            self.long.host_bytes / 1e6,
            self.long.device_bytes / 1e6,
        )


def measure_growth(
    model: StepModel, short_frames: int, factor: int, repeats: int, device: torch.device
) -> Table:
    """A stream beside one `factor` times as long, `repeats` times, after one that warms up.

    Half of the short ones are heard before the long one and half after it, so that the unrest of
    a machine meets both alike.
    """
    listen(model, short_frames, device)
    turns = [_turn(model, short_frames, factor, device).cells() for _ in range(repeats)]
    middle = tuple(median(column) for column in zip(*turns, strict=True))
    named = [*((str(number), *cells) for number, cells in enumerate(turns, 1)), ("middle", *middle)]
    return Table(
        title="A long recording beside short ones",
        columns=COLUMNS,
        rows=[(*row[:-1], row[-1] if device.type == "cuda" else None) for row in named],
        notes=(
            f"One stream of {factor * short_frames:,} frames in one slot, amid {factor} of "
            f"{short_frames:,}, half of which came before it; samples are made as they are cut. "
            "More memory: by how much the process's peak grew while the long one was heard.",
        ),
    )


def _turn(model: StepModel, short_frames: int, factor: int, device: torch.device) -> Turn:
    before = [listen(model, short_frames, device) for _ in range(factor // 2)]
    long = listen(model, factor * short_frames, device)
    after = [listen(model, short_frames, device) for _ in range(factor - factor // 2)]
    return Turn(before + after, long)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
