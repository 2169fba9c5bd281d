"""Hours of sound per hour, from samples in the host's memory to tokens in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nightscribe.benchmarks.rounds import noise
from nightscribe.benchmarks.timing import timed
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.step_runner import StepRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Clips of lengths drawn evenly from a span."""

    name: str
    shortest_s: float
    longest_s: float
    num_clips: int
    overlap_s: float = 0.0  # of neighbouring shards: heard twice, counted once


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What hearing a workload took."""

    workload: Workload
    sound_s: float  # without prefix, flush and overlap
    wall_s: float
    occupancy: float

    @property
    def times_real_time(self) -> float:
        return self.sound_s / self.wall_s


def hear(
    model: StepRunner, config: SpeechToTextConfig, workload: Workload, device: torch.device
) -> Throughput:
    """Hear all clips, longest first, each between its silences."""
    lengths = _lengths(workload, config.mimi.sample_rate_hz)
    streams = _streams(lengths, config)
    engine = step_engine(model)
    spent = timed(lambda: [None for _ in engine.run(streams)], device)
    overlap = workload.overlap_s * config.mimi.sample_rate_hz
    return Throughput(
        workload=workload,
        sound_s=sum(length - overlap for length in lengths) / config.mimi.sample_rate_hz,
        wall_s=spent.wall_s,
        occupancy=engine.stats.occupancy,
    )


def _lengths(workload: Workload, rate_hz: int) -> Sequence[int]:
    draws = np.random.default_rng(3).uniform(
        workload.shortest_s, workload.longest_s, workload.num_clips
    )
    return sorted((int(length_s * rate_hz) for length_s in draws), reverse=True)


def _streams(lengths: Sequence[int], config: SpeechToTextConfig) -> list[Stream]:
    sound = noise(max(lengths))
    return [
        Stream(index, sound[:length], config.num_frames(length))
        for index, length in enumerate(lengths)
    ]
