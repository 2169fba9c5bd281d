"""The learning rate by elapsed time instead of steps, and a way to stand still for others."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

WARMUP_STEPS = 100
# While the file of this name exists, long stages wait: someone measures on the same machine.
PAUSE_VARIABLE = "TINY_PAUSE"


def timed_steps(seconds: float, learning_rate: float) -> Iterator[tuple[float, float]]:
    """The share of time gone and the learning rate of each step, until the time is over."""
    started, step = time.monotonic(), 0
    while (gone := (time.monotonic() - started) / seconds) < 1:
        warmth = min(1.0, (step + 1) / WARMUP_STEPS)
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * gone))
        yield gone, learning_rate * warmth * falling
        step += 1


def wait_while_paused() -> None:
    path = os.environ.get(PAUSE_VARIABLE)
    while path and Path(path).exists():
        time.sleep(0.5)
