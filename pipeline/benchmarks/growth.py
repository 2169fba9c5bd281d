"""What a long recording costs beside a short one: time, memory of the device and of the host."""

import gc
import resource
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.benchmarks.rounds import noise
from pipeline.benchmarks.table import Table
from pipeline.benchmarks.timing import Spent, timed
from pipeline.engine.step_model import StepModel
from pipeline.engine.stepping import stepping_engine
from pipeline.engine.stream import Stream


@dataclass(frozen=True, slots=True)
class EndlessNoise:
    """Samples that are made when they are cut: a recording that no memory holds."""

    period_N: np.ndarray
    num_samples: int

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(self.num_samples)
        return np.take(self.period_N, np.arange(start, stop), mode="wrap")


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
    engine = stepping_engine(model)
    spent = timed(lambda: [None for _ in engine.hear([stream])], device)
    return Listened(num_frames, spent, _peak_bytes() - host, _device_bytes(device) - on_device)


def measure_growth(model: StepModel, short_frames: int, factor: int, device: torch.device) -> Table:
    """A stream beside one `factor` times as long, after one that warms up."""
    listen(model, short_frames, device)
    short = listen(model, short_frames, device)
    long = listen(model, factor * short_frames, device)
    return Table(
        title="A long recording beside a short one",
        columns=(
            "frames",
            "seconds",
            "processor seconds",
            "times the short one's",
            "of processor time",
            "more host MB",
            "more device MB",
        ),
        rows=[
            (
                one.num_frames,
                one.spent.wall_s,
                one.spent.processor_s,
                one.spent.wall_s / short.spent.wall_s,
                one.spent.processor_s / short.spent.processor_s,
                one.host_bytes / 1e6,
                one.device_bytes / 1e6 if device.type == "cuda" else None,
            )
            for one in (short, long)
        ],
        notes=(
            "One stream in one slot, after one that warmed up; samples are made as they are cut. "
            "More host memory: by how much the process's peak grew while it was heard.",
        ),
    )


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
