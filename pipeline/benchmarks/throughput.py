"""Hours of audio per hour, from samples in host memory to tokens in host memory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

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
    # Of a GPU; a CPU computes in the time of the host.
    host_round_s: float | None = None  # what the host does for a round, without waiting for it
    device_round_s: float | None = None  # from the first step of a round to its last

    @property
    def times_real_time(self) -> float:
        return self.audio_s / self.wall_s


@dataclass(slots=True)
class WatchedRunner:
    """A model that counts how long its rounds run, and how long the host waits for them."""

    runner: StepRunner
    waited_s: float = 0.0
    _spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)

    def run(self, *round_input: Any) -> "WatchedRound":
        with self._on_device():
            return WatchedRound(self, self.runner.run(*round_input))

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        if self.runner.device.type != "cuda":
            yield
            return
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(self.runner.device)
        first.record(stream)
        yield
        last.record(stream)
        self._spans.append((first, last))

    def device_round_s(self) -> float | None:
        """Per round, once all are done; None on a CPU."""
        spans_ms = [first.elapsed_time(last) for first, last in self._spans]
        return sum(spans_ms) / len(spans_ms) / 1e3 if spans_ms else None


@dataclass(frozen=True, slots=True)
class WatchedRound:
    """A round under way; counts how long the host waits for it."""

    watched: WatchedRunner
    pending: Any

    def wait(self) -> Any:
        began_s = time.perf_counter()
        output = self.pending.wait()
        self.watched.waited_s += time.perf_counter() - began_s
        return output


def measure_throughput(
    model: StepRunner, config: SpeechToTextConfig, workload: Workload, device: torch.device
) -> Throughput:
    """Transcribe all clips, longest first, each with its prefix and flush."""
    lengths = _lengths(workload, config.mimi.sample_rate_hz)
    streams = _streams(lengths, config)
    watched = WatchedRunner(model)
    engine = step_engine(watched)
    elapsed = timed(lambda: [None for _ in engine.run(streams)], device)
    device_round_s, stats = watched.device_round_s(), engine.stats
    host_s = (stats.busy_s - watched.waited_s) / stats.num_rounds
    overlap = workload.overlap_s * config.mimi.sample_rate_hz
    return Throughput(
        workload=workload,
        audio_s=sum(length - overlap for length in lengths) / config.mimi.sample_rate_hz,
        wall_s=elapsed.wall_s,
        occupancy=stats.occupancy,
        host_round_s=None if device_round_s is None else host_s,
        device_round_s=device_round_s,
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
