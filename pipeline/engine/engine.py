"""Keeps every slot of a model busy, a round of steps at a time.

The host is one round ahead: while a round runs it plans the next, has its chunk encoded and its
steps queued, and only then reads what the first one said.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine.ahead import Ahead
from pipeline.engine.slots import Listed, Round, Segment, Slots, Source
from pipeline.engine.step_model import Answers, Said, StepModel
from pipeline.engine.stream import Heard, Listening, Stream


@dataclass(kw_only=True, slots=True)
class ScheduleConfig:
    """How streams share the slots."""

    round_steps: int = field(
        default=25, metadata={"help": "steps between two looks at the results"}
    )
    reproducible: bool = field(
        default=False,
        metadata={"help": "always run over all slots, so that rounding depends on no neighbour"},
    )


@dataclass(slots=True)
class Tally:
    """What an engine has done so far."""

    num_slots: int = 0
    slots_busy: float = 0.0  # those that hold a stream in the round planned last, on average
    busy_s: float = 0.0  # spent on rounds, not on waiting for streams
    num_rounds: int = 0
    num_steps: int = 0
    num_slot_steps: int = 0
    num_live_steps: int = 0

    @property
    def occupancy(self) -> float:
        """Slot-steps that heard a stream / all slot-steps that were run."""
        return self.num_live_steps / self.num_slot_steps if self.num_slot_steps else 0.0

    def add(self, planned: Round) -> None:
        self.num_rounds += 1
        self.num_steps += planned.num_steps
        self.num_slot_steps += planned.num_steps * planned.num_slots
        self.num_live_steps += planned.num_live_steps
        self.slots_busy = planned.num_live_steps / planned.num_steps


class Engine:
    """Continuous batching over one model."""

    def __init__(self, model: StepModel, config: ScheduleConfig | None = None) -> None:
        self._model = model
        self._config = config or ScheduleConfig()
        self.tally = Tally(num_slots=max(model.bucket_sizes))

    def hear(self, streams: Iterable[Stream]) -> Iterator[Heard]:
        """Yield each stream once it has been heard to its end; pulled when a slot is free."""
        return self.hear_source(Listed(streams))

    def hear_source(self, source: Source) -> Iterator[Heard]:
        """As `hear`, from a source that may have nothing to give for a while."""
        slots = Slots(self._buckets(), self._config.round_steps)
        rounds = _Rounds(self._model, self._config.round_steps)
        while True:
            planned = slots.plan(source, wait=not rounds.is_running)
            if planned is None and not rounds.is_running:
                return
            began_s = time.perf_counter()
            if planned is None:
                self.tally.slots_busy = 0.0
            else:
                self.tally.add(planned)
            yield from rounds.exchange(planned)
            self.tally.busy_s += time.perf_counter() - began_s

    def _buckets(self) -> list[int]:
        sizes = self._model.bucket_sizes
        return [max(sizes)] if self._config.reproducible else list(sizes)


class _Rounds:
    """The round that runs, and everything that earlier ones said about unfinished streams."""

    def __init__(self, model: StepModel, round_steps: int) -> None:
        self._model = model
        self._ahead = Ahead(model.frame_samples, round_steps)
        self._codes: list[Any] = []
        self._listening: dict[int, Listening] = {}  # by identity of the stream
        self._running: tuple[Round, Said] | None = None

    @property
    def is_running(self) -> bool:
        return self._running is not None

    def exchange(self, planned: Round | None) -> Iterator[Heard]:
        """Queue a round, then read the one before it."""
        before, self._running = self._running, self._launch(planned) if planned else None
        if before is not None:
            yield from self._read(*before)

    def _launch(self, planned: Round) -> tuple[Round, Said]:
        if planned.moves:
            sources, targets = zip(*planned.moves, strict=True)
            self._model.move(sources, targets)
        chunk, steps = self._ahead.prepare(planned)
        self._codes = [*self._codes[-1:], self._model.encode(chunk)]
        return planned, self._model.run(steps, self._codes)

    def _read(self, planned: Round, said: Said) -> Iterator[Heard]:
        answers = said.wait()
        for segment in planned.segments:
            listening = self._listening.get(id(segment.stream))
            if listening is None:
                listening = Listening(segment.stream, self._model.num_heads)
                self._listening[id(segment.stream)] = listening
            _write(listening, segment, answers)
            if segment.is_last:
                yield self._listening.pop(id(segment.stream)).heard()


def _write(listening: Listening, segment: Segment, answers: Answers) -> None:
    span = slice(segment.round_step, segment.round_step + segment.num_steps), segment.slot
    listening.write(
        slice(segment.first_step, segment.end_step),
        answers.tokens_TS[span],
        answers.confidences_TS[span],
        answers.heads_TSH[span],
    )
