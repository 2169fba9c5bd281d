"""Hours of audio per hour, from samples in host memory to tokens in host memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nightscribe.benchmarks.step_curve import noise
from nightscribe.benchmarks.timing import timed
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.step_runner import StepRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Clips whose lengths are drawn uniformly from a range."""

    name: str
    shortest_s: float
    longest_s: float
    num_clips: int
    overlap_s: float = 0.0  # of neighbouring shards: transcribed twice, counted once


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """The time a workload took."""

    workload: Workload
    audio_s: float  # without prefix, flush and overlap
    wall_s: float
    occupancy: float

    @property
    def times_real_time(self) -> float:
        return self.audio_s / self.wall_s


def measure_throughput(
    model: StepRunner, config: SpeechToTextConfig, workload: Workload, device: torch.device
) -> Throughput:
    """Transcribe all clips, longest first, each with its prefix and flush."""
    lengths = _lengths(workload, config.mimi.sample_rate_hz)
    streams = _streams(lengths, config)
    engine = step_engine(model)
    elapsed = timed(lambda: [None for _ in engine.run(streams)], device)
    overlap = workload.overlap_s * config.mimi.sample_rate_hz
    return Throughput(
        workload=workload,
        audio_s=sum(length - overlap for length in lengths) / config.mimi.sample_rate_hz,
        wall_s=elapsed.wall_s,
        occupancy=engine.stats.occupancy,
    )


def _lengths(workload: Workload, rate_hz: int) -> Sequence[int]:
    draws = np.random.default_rng(3).uniform(
        workload.shortest_s, workload.longest_s, workload.num_clips
    )
    return sorted((int(length_s * rate_hz) for length_s in draws), reverse=True)


def _streams(lengths: Sequence[int], config: SpeechToTextConfig) -> list[Stream]:
    audio_N = noise(max(lengths))
    return [
        Stream(index, audio_N[:length], config.num_frames(length))
        for index, length in enumerate(lengths)
    ]
