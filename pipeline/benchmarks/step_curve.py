"""The time of a step over more and more slots, every KV cache full, and the bytes it reads.

T steps, S slots.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Protocol

import numpy as np
import torch

from nightscribe.benchmarks.timing import timed
from nightscribe.engine.interface import Chunk, RoundInput
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.step_runner import StepRunner

ROUND_STEPS = 25
NUM_SINGLE_STEPS = 25


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
