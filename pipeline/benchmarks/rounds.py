"""Rounds of steps of streams that have heard much already.

T steps, S slots.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from nightscribe.engine.interface import Chunk, RoundInput
from nightscribe.model.step_runner import StepRunner


class Hears(Protocol):
    """A model that encodes."""

    @property
    def frame_samples(self) -> int: ...


def round_at(position: int, num_steps: int, num_slots: int) -> RoundInput:
    """Every slot's next steps, at the same positions."""
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


def one_chunk(model: Hears, num_frames: int, num_jobs: int = 1) -> Chunk:
    """The beginning of so many streams."""
    return Chunk(
        num_frames=num_frames,
        frames_J=np.full(num_jobs, num_frames, np.int64),
        samples=[noise(num_frames * model.frame_samples, seed) for seed in range(num_jobs)],
        slots_J=np.arange(num_jobs),
        fresh_J=np.ones(num_jobs, bool),
        continues_J=np.zeros(num_jobs, bool),
    )


def fill_memory(model: StepRunner) -> None:
    """Write something everywhere: memory that was never written to is read too quickly."""
    for tensor in model.state_tensors():
        if tensor.is_floating_point() and tensor.element_size() > 1:
            tensor.normal_()
        else:
            tensor.view(torch.int8).random_(-100, 100)


def a_round(model: StepRunner, num_slots: int, history: int, num_steps: int) -> Callable:
    """What makes one round over streams that have heard `history` frames, and waits for it."""
    codes = [model.encode(one_chunk(model, num_frames=1))]
    steps = round_at(history, num_steps, num_slots)
    return lambda: model.run(steps, codes).wait()
