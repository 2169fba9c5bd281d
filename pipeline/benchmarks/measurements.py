"""What a benchmark measures: times of actions, the cost of a step, the throughput of a workload.

The cost of a step is measured with every KV cache full. T steps, S slots.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Protocol

import numpy as np
import torch

from nightscribe.benchmarks.watched_runner import WatchedRunner
from nightscribe.engine.interface import Chunk, RoundInput
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.device import free_bytes_of
from nightscribe.model.step_runner import StepRunner

Action = Callable[[], object]

COPY_REPEATS = 7
ROUND_STEPS = 25
NUM_SINGLE_STEPS = 25


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Wall time, and CPU time of this process."""

    wall_s: float
    cpu_s: float


def timed(action: Action, device: torch.device) -> Elapsed:
    """Run once; the device is idle before and after."""
    synchronize(device)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    action()
    synchronize(device)
    return Elapsed(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def in_turns(
    actions: Mapping[str, Action], repeats: int, device: torch.device
) -> dict[str, list[Elapsed]]:
    """Each action's times over `repeats` turns, after one warm-up turn."""
    elapsed: dict[str, list[Elapsed]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            time_taken = timed(action, device)
            if turn:
                elapsed[name].append(time_taken)
    return elapsed


def medians(elapsed: Sequence[Elapsed]) -> Elapsed:
    """Median wall time and median CPU time."""
    return Elapsed(median(s.wall_s for s in elapsed), median(s.cpu_s for s in elapsed))


def synchronize(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written per second by a copy that is larger than any cache."""
    source = _large(device)
    target = torch.empty_like(source)
    elapsed = in_turns({"copy": lambda: target.copy_(source)}, COPY_REPEATS, device)
    return 2 * source.nbytes / medians(elapsed["copy"]).wall_s


def read_bytes_per_s(device: torch.device) -> float:
    """Bytes per second of a sum over numbers that are larger than any cache."""
    source = _large(device)
    elapsed = in_turns({"sum": source.sum}, COPY_REPEATS, device)
    return source.nbytes / medians(elapsed["sum"]).wall_s


def _large(device: torch.device) -> torch.Tensor:
    most_bytes = (4 << 30) if device.type == "cuda" else (256 << 20)
    return torch.ones(min(most_bytes, free_bytes_of(device) // 4) // 4, device=device)


class HasFrames(Protocol):
    """A model that encodes frames of audio."""

    @property
    def frame_samples(self) -> int: ...


def round_at(position: int, num_steps: int, num_slots: int) -> RoundInput:
    """The next steps of every slot, all at one position."""
    shape = num_steps, num_slots
    positions_T1 = np.arange(position, position + num_steps, dtype=np.int32)[:, None]
    return RoundInput(
        positions_TS=np.repeat(positions_T1, num_slots, axis=1),
        code_rows_TS=np.zeros(shape, np.int64),
        forced_TS=np.full(shape, -1, np.int32),
        temperatures_TS=np.zeros(shape, np.float32),
        seeds_TS=np.zeros(shape, np.int64),
        prompts_TS=np.zeros(shape, np.int64),
        prompt_tokens_P=np.full(1, -1, np.int64),
    )


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)
    return (draws * 3000).clip(-32768, 32767).astype(np.int16)


def one_chunk(model: HasFrames, num_frames: int, num_jobs: int = 1) -> Chunk:
    """The first frames of `num_jobs` streams."""
    return Chunk(
        num_frames=num_frames,
        frames_J=np.full(num_jobs, num_frames, np.int64),
        samples=[noise(num_frames * model.frame_samples, seed) for seed in range(num_jobs)],
        silent_J=np.zeros(num_jobs, np.int64),
        slots_J=np.arange(num_jobs),
        fresh_J=np.ones(num_jobs, bool),
        continues_J=np.zeros(num_jobs, bool),
    )


def fill_memory(model: StepRunner) -> None:
    """Write to all of the model's state: memory that was never written is read too quickly."""
    for tensor in model.state_tensors():
        fill_with_noise(tensor)


def fill_with_noise(tensor: torch.Tensor) -> None:
    """Finite numbers in any dtype of a KV cache."""
    if tensor.dtype == torch.float8_e4m3fn:
        tensor.view(torch.int8).random_(0, 100)  # the bits of -1 are a NaN
    elif tensor.is_floating_point():
        tensor.normal_()
    else:
        tensor.random_(-100, 100)


def round_of(model: StepRunner, num_slots: int, history: int, num_steps: int) -> Callable:
    """A function that runs one round over streams at position `history` and waits for it."""
    codes = [model.encode(one_chunk(model, num_frames=1))]
    steps = round_at(history, num_steps, num_slots)
    return lambda: model.run(steps, codes).wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The cost of a step over `num_slots` slots."""

    num_slots: int
    in_rounds_s: float  # per step, when the host reads results every 25 steps
    median_s: float  # per step, when the host reads results at every step
    p99_s: float  # the same, 99th percentile
    frame_s: float
    read_bytes: float

    @property
    def times_real_time(self) -> float:
        return self.num_slots * self.frame_s / self.in_rounds_s

    @property
    def bytes_per_s(self) -> float:
        return self.read_bytes / self.in_rounds_s

    @property
    def keeps_up(self) -> bool:
        """Whether as many live streams could be transcribed."""
        return self.p99_s < self.frame_s


def step_curve(
    model: StepRunner, config: SpeechToTextConfig, weights_bytes: int, num_rounds: int
) -> Iterator[StepCost]:
    """Step costs from the smallest bucket to all slots."""
    fill_memory(model)
    context, device = config.language_model.context, model.device
    cache_bytes = sum(tensor.nbytes for tensor in model.cache_tensors()) / max(model.bucket_sizes)
    for num_slots in sorted(model.bucket_sizes):
        rounds = round_of(model, num_slots, context, ROUND_STEPS)
        single = round_of(model, num_slots, context, 1)
        for action in (rounds, single):
            action()
        several = [timed(rounds, device).wall_s / ROUND_STEPS for _ in range(num_rounds)]
        singles = [timed(single, device).wall_s for _ in range(NUM_SINGLE_STEPS)]
        yield StepCost(
            num_slots=num_slots,
            in_rounds_s=median(several),
            median_s=median(singles),
            p99_s=quantiles(singles, n=100)[-1],
            frame_s=1 / config.mimi.frame_rate_hz,
            read_bytes=weights_bytes + num_slots * cache_bytes,
        )


def step_weights_bytes(language_model: torch.nn.Module) -> int:
    """Bytes of weights that a step reads: all but the embedding tables."""
    read = (tensor for name, tensor in language_model.named_parameters() if "embedding" not in name)
    return sum(tensor.nbytes for tensor in read)


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
