"""A learning rate schedule by elapsed time instead of steps."""

import math
import time
from collections.abc import Iterator

WARMUP_STEPS = 100


def timed_steps(seconds: float, learning_rate: float) -> Iterator[tuple[float, float]]:
    """The share of time gone and the learning rate of each step, until the time is over."""
    started, step = time.monotonic(), 0
    while (gone := (time.monotonic() - started) / seconds) < 1:
        warmth = min(1.0, (step + 1) / WARMUP_STEPS)
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * gone))
        yield gone, learning_rate * warmth * falling
        step += 1
