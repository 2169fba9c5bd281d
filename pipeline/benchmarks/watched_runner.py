"""A model whose rounds are timed: how long they run, and how long the host waits for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from nightscribe.model.step_runner import StepRunner


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
