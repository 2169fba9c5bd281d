"""The training loop, from the first step or a saved state to the last step."""

import json
import threading
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
from nightscribe.training.train_state import Losses, TrainState, resume, save
from nightscribe.training.windows import Window, WindowSampler

STATE_FILE, LOG_FILE = "training.safetensors", "training.jsonl"

OnLog = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
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
class DataLoader:
    """Batches by step; the batch of a step depends on seed, worker and step alone."""

    sampler: WindowSampler
    augmentation: AugmentationConfig
    maker: BatchMaker
    schedule: ScheduleConfig
    rank: int = 0

    def from_step(self, first_step: int) -> Iterator[Batch]:
        """One batch per step; the windows of the next step are drawn in the background."""
        with ThreadPoolExecutor(1) as ahead:
            drawn = ahead.submit(self._windows, first_step)
            for step in range(first_step, self.schedule.num_steps):
                windows = drawn.result()
                if step + 1 < self.schedule.num_steps:
                    drawn = ahead.submit(self._windows, step + 1)
                yield self.maker.make(windows, self._rng(step, 1))

    def _windows(self, step: int) -> list[Window]:
        rng = self._rng(step, 0)
        return [self._window(rng) for _ in range(self.schedule.windows_per_step)]

    def _window(self, rng: np.random.Generator) -> Window:
        window = self.sampler.draw(rng)
        rate_hz = self.sampler.sample_rate_hz
        samples_N = augmented(window.samples_N, rate_hz, rng, self.augmentation)
        return window._replace(samples_N=samples_N)

    def _rng(self, step: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.schedule.seed, self.rank, step, purpose))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """The training loop of one worker; the first worker writes its state and log to `folder`."""

    state: TrainState
    loader: DataLoader
    folder: Path
    evaluate: Callable[[], float] | None = None  # the word error rate of the averaged weights
    writes_files: bool = True

    def run(self, on_log: OnLog = lambda line: None, stop: threading.Event | None = None) -> None:
        """Train to the last step, or save and return once `stop` is set.

        `on_log` gets every line of the log.
        """
        saved = self.folder / STATE_FILE
        if saved.exists():
            resume(self.state, saved)
        started, audio_s = time.monotonic(), 0.0
        for batch in self.loader.from_step(self.state.step):
            losses = self.state.update(batch)
            audio_s += len(batch.inputs_SP) * self.loader.sampler.config.window_s
            if self.writes_files:
                speed = audio_s / max(time.monotonic() - started, 1e-9)
                self._record(losses, speed, on_log)
            if stop is not None and stop.is_set():
                if self.writes_files:
                    save(self.state, saved)
                return

    def _record(self, losses: Losses, speed: float, on_log: OnLog) -> None:
        schedule, step = self.loader.schedule, self.state.step
        is_last = step == schedule.num_steps
        line: dict[str, Any] = {"step": step, "speed": round(speed, 2)}
        if is_last or step % schedule.evaluate_every_steps == 0:
            line |= self._evaluated()
        if line.keys() > {"step", "speed"} or is_last or step % schedule.log_every_steps == 0:
            line |= {name: round(value, 4) for name, value in losses._asdict().items()}
            self._log(line)
            on_log(line)
        if is_last or step % schedule.save_every_steps == 0:
            save(self.state, self.folder / STATE_FILE)

    def _evaluated(self) -> dict[str, float]:
        if self.evaluate is None:
            return {}
        self.state.swap_averages()
        try:
            return {"wer": round(self.evaluate(), 4)}
        finally:
            self.state.swap_averages()

    def _log(self, line: dict[str, Any]) -> None:
        with (self.folder / LOG_FILE).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
