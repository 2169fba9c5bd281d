"""A course of training from its first step, or where it was left, to its last."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightscribe.options import check_options, option
from nightscribe.training.augmentation import AugmentationConfig, augmented
from nightscribe.training.batches import Batch, BatchMaker
from nightscribe.training.checkpointing import resume_training, save_training
from nightscribe.training.learner import Learner, Losses
from nightscribe.training.windows import Window, WindowSampler

STATE_FILE, LOG_FILE = "training.safetensors", "training.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class CourseConfig:
    """Length of the training, and how often it logs, evaluates and saves."""

    num_steps: int = option(1000, "training steps in all", minimum=1, common=True)
    windows_per_step: int = option(
        16, "batch size: training windows per worker and step", minimum=1, common=True
    )
    log_every_steps: int = option(10, "steps between two log lines", minimum=1)
    evaluate_every_steps: int = option(
        200, "steps between two evaluations of the word error rate", minimum=1
    )
    save_every_steps: int = option(
        200, "steps between two saved states to resume from", minimum=1, common=True
    )
    seed: int = option(0, "random seed")

    def __post_init__(self) -> None:
        check_options(self, "schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Batches without end; what a step hears depends on seed, worker and step alone."""

    sampler: WindowSampler
    augmentation: AugmentationConfig
    maker: BatchMaker
    course: CourseConfig
    rank: int = 0

    def from_step(self, first_step: int) -> Iterator[Batch]:
        """One batch a step; the windows of the next step are drawn while this one is learnt."""
        with ThreadPoolExecutor(1) as ahead:
            drawn = ahead.submit(self._windows, first_step)
            for step in range(first_step, self.course.num_steps):
                windows = drawn.result()
                if step + 1 < self.course.num_steps:
                    drawn = ahead.submit(self._windows, step + 1)
                yield self.maker.make(windows, self._rng(step, 1))

    def _windows(self, step: int) -> list[Window]:
        rng = self._rng(step, 0)
        return [self._window(rng) for _ in range(self.course.windows_per_step)]

    def _window(self, rng: np.random.Generator) -> Window:
        window = self.sampler.draw(rng)
        rate_hz = self.sampler.sample_rate_hz
        samples_N = augmented(window.samples_N, rate_hz, rng, self.augmentation)
        return window._replace(samples_N=samples_N)

    def _rng(self, step: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.course.seed, self.rank, step, purpose))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The lessons of one worker, and what the first worker keeps of them in `folder`."""

    learner: Learner
    lessons: Lessons
    folder: Path
    measure: Callable[[], float] | None = None  # the word error rate of the averaged weights
    keeps: bool = True  # whether this worker writes files

    def run(self, tell: Callable[[dict[str, Any]], None] = lambda line: None) -> None:
        """Learn to the last step; `tell` gets every line of the log."""
        state = self.folder / STATE_FILE
        if state.exists():
            resume_training(self.learner, state)
        started, heard_s = time.monotonic(), 0.0
        for batch in self.lessons.from_step(self.learner.step):
            losses = self.learner.learn(batch)
            heard_s += len(batch.heard_SP) * self.lessons.sampler.config.window_s
            if self.keeps:
                speed = heard_s / max(time.monotonic() - started, 1e-9)
                self._keep(losses, speed, tell)

    def _keep(self, losses: Losses, speed: float, tell: Callable[[dict[str, Any]], None]) -> None:
        course, step = self.lessons.course, self.learner.step
        is_last = step == course.num_steps
        line: dict[str, Any] = {"step": step, "speed": round(speed, 2)}
        if is_last or step % course.evaluate_every_steps == 0:
            line |= self._measured()
        if line.keys() > {"step", "speed"} or is_last or step % course.log_every_steps == 0:
            line |= {name: round(value, 4) for name, value in losses._asdict().items()}
            self._log(line)
            tell(line)
        if is_last or step % course.save_every_steps == 0:
            save_training(self.learner, self.folder / STATE_FILE)

    def _measured(self) -> dict[str, float]:
        if self.measure is None:
            return {}
        self.learner.swap_averages()
        try:
            return {"wer": round(self.measure(), 4)}
        finally:
            self.learner.swap_averages()

    def _log(self, line: dict[str, Any]) -> None:
        with (self.folder / LOG_FILE).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
