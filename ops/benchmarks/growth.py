"""The cost of a long recording and of short ones: time, device memory, host memory."""

import gc
import resource
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
import torch

from nightscribe.benchmarks.measurements import Elapsed, noise, timed
from nightscribe.benchmarks.report import Table
from nightscribe.engine.interface import StepModel
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream

COLUMNS = (
    "turn",
    "short s",
    "long s",
    "long / short",
    "long / short, CPU time",
    "more host MB",
    "more device MB",
)


@dataclass(frozen=True, slots=True)
class EndlessNoise:
    """Samples made when they are sliced: a recording too long to hold in memory."""

    period_N: np.ndarray
    num_samples: int

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(self.num_samples)
        # Not np.take(mode="wrap"), whose time grows with the number of periods before `start`.
        return self.period_N[np.arange(start, stop) % len(self.period_N)]


def stream_of(frame_samples: int, num_frames: int) -> Stream:
    audio = EndlessNoise(noise(100 * frame_samples + 1), num_frames * frame_samples)
    return Stream(num_frames, audio, num_frames)


@dataclass(frozen=True, slots=True)
class StreamCost:
    """The time of one stream, and how much the peak of memory grew."""

    num_frames: int
    elapsed: Elapsed
    host_bytes: int
    device_bytes: int


def run_stream(model: StepModel, num_frames: int, device: torch.device) -> StreamCost:
    """Run one stream of `num_frames` frames in one slot."""
    gc.collect()
    host, on_device = _peak_bytes(), _device_bytes(device)
    stream = stream_of(model.frame_samples, num_frames)
    engine = step_engine(model)
    elapsed = timed(lambda: [None for _ in engine.run([stream])], device)
    return StreamCost(num_frames, elapsed, _peak_bytes() - host, _device_bytes(device) - on_device)


@dataclass(frozen=True, slots=True)
class Turn:
    """A long stream between short ones of the same total length."""

    short: list[StreamCost]
    long: StreamCost

    def cells(self) -> tuple[float, ...]:
        """Under `COLUMNS`, after the first."""
        short_s = mean(one.elapsed.wall_s for one in self.short)
        short_cpu_s = mean(one.elapsed.cpu_s for one in self.short)
        return (
            short_s,
            self.long.elapsed.wall_s,
            self.long.elapsed.wall_s / short_s,
            self.long.elapsed.cpu_s / short_cpu_s,
            self.long.host_bytes / 1e6,
            self.long.device_bytes / 1e6,
        )


def measure_growth(
    model: StepModel, short_frames: int, factor: int, repeats: int, device: torch.device
) -> Table:
    """Short streams and one `factor` times as long, `repeats` times, after a warm-up.

    Half of the short ones run before the long one and half after it, so that changes in the load
    of the machine affect both alike.
    """
    run_stream(model, short_frames, device)
    turns = [_turn(model, short_frames, factor, device).cells() for _ in range(repeats)]
    middle = tuple(median(column) for column in zip(*turns, strict=True))
    named = [*((str(number), *cells) for number, cells in enumerate(turns, 1)), ("median", *middle)]
    return Table(
        title="A long recording and short ones",
        columns=COLUMNS,
        rows=[(*row[:-1], row[-1] if device.type == "cuda" else None) for row in named],
        notes=(
            f"One stream of {factor * short_frames:,} frames in one slot, between {factor} of "
            f"{short_frames:,} frames; samples are made when they are sliced. "
            "More memory: growth of the process's peak during the long stream.",
        ),
    )


def _turn(model: StepModel, short_frames: int, factor: int, device: torch.device) -> Turn:
    before = [run_stream(model, short_frames, device) for _ in range(factor // 2)]
    long = run_stream(model, factor * short_frames, device)
    after = [run_stream(model, short_frames, device) for _ in range(factor - factor // 2)]
    return Turn(before + after, long)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
