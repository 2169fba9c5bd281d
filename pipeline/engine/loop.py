"""The engine's loop: keeps every slot of a model busy, one round at a time.

`Engine` drives a `RoundLoop`. The one here makes one step per slot at a time; `speculative` has
the one that runs several frames in a pass.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nightscribe.engine.encoder_prefetch import EncoderPrefetch
from nightscribe.engine.interface import PendingRound, RoundOutput, StepModel
from nightscribe.engine.output_reader import OutputReader
from nightscribe.engine.rounds import Round
from nightscribe.engine.scheduler import IterableSource, Scheduler, StreamSource, buckets_of
from nightscribe.engine.stream import Stream, StreamOutput


@dataclass(slots=True)
class EngineStats:
    """What an engine has done so far."""

    num_slots: int = 0
    slots_busy: float = 0.0  # slots that hold a stream in the round planned last, on average
    busy_s: float = 0.0  # spent on rounds, not on waiting for streams
    num_rounds: int = 0
    num_steps: int = 0
    num_slot_steps: int = 0
    num_live_steps: int = 0

    @property
    def occupancy(self) -> float:
        """Slot-steps that held a stream / all slot-steps that were run."""
        return self.num_live_steps / self.num_slot_steps if self.num_slot_steps else 0.0

    def add_round(self, *, num_steps: int, num_slots: int, num_live_steps: int) -> None:
        self.num_rounds += 1
        self.num_steps += num_steps
        self.num_slot_steps += num_steps * num_slots
        self.num_live_steps += num_live_steps


class RoundLoop(Protocol):
    """The streams in the slots, and the rounds under way."""

    def admit(self, source: StreamSource) -> bool:
        """Give streams to the slots that are free; whether any work is left."""

    def advance(self) -> Iterator[StreamOutput]:
        """Queue a round if there is one, then read an earlier one if it is its turn."""


class Engine:
    """Continuous batching over one model; each run begins with all slots idle."""

    def __init__(self, num_slots: int, new_loop: Callable[[EngineStats], RoundLoop]) -> None:
        self.stats = EngineStats(num_slots=num_slots)
        self._new_loop = new_loop

    def run(self, streams: Iterable[Stream]) -> Iterator[StreamOutput]:
        """Yield the output of each stream as it ends; streams are pulled as slots become free."""
        return self.run_source(IterableSource(streams))

    def run_source(self, source: StreamSource) -> Iterator[StreamOutput]:
        """As `run`, from a source that may have nothing to give for a while."""
        loop = self._new_loop(self.stats)
        while loop.admit(source):
            began_s = time.perf_counter()
            yield from loop.advance()
            self.stats.busy_s += time.perf_counter() - began_s
        self.stats.slots_busy = 0.0


def step_engine(
    model: StepModel, *, round_steps: int = 25, reproducible: bool = False, live: bool = False
) -> Engine:
    """An engine that reads the output every `round_steps` steps.

    A `reproducible` one always runs over all slots: then a stream's output does not depend on the
    other streams, not even in precisions below float32. A `live` one takes live streams, too: it
    reads each round before it plans the next, which then has all audio that has come until then.
    """
    buckets = buckets_of(model, reproducible)
    return Engine(
        buckets[-1], lambda stats: _StepLoop(model, buckets, round_steps, stats, live=live)
    )


class _StepLoop:
    """One step per slot at a time: all steps of a stream are known when it is admitted.

    The host is one round ahead: while a round runs it plans the next, queues its chunk and its
    steps, and only then reads the output of the first. With live streams it is not.
    """

    def __init__(
        self,
        model: StepModel,
        buckets: Sequence[int],
        round_steps: int,
        stats: EngineStats,
        *,
        live: bool,
    ) -> None:
        self._model, self._stats, self._live = model, stats, live
        self._scheduler = Scheduler(buckets, round_steps)
        self._prefetch = EncoderPrefetch(model.frame_samples, round_steps, ahead=not live)
        self._codes: list[Any] = []
        self._reader = OutputReader(model.num_vad_heads)
        self._planned: Round | None = None
        self._running: tuple[Round, PendingRound[RoundOutput]] | None = None

    def admit(self, source: StreamSource) -> bool:
        """Plan the next round; whether there is one, or one to read."""
        self._planned = self._scheduler.plan(source, wait=self._running is None)
        return self._planned is not None or self._running is not None

    def advance(self) -> Iterator[StreamOutput]:
        """Queue the planned round, then read the one before it."""
        before, self._running = self._running, self._launch(self._planned)
        if self._live:
            before, self._running = self._running, None
        if before is not None:
            planned, pending = before
            yield from self._reader.read(planned, pending.wait())

    def _launch(self, planned: Round | None) -> tuple[Round, PendingRound[RoundOutput]] | None:
        self._count(planned)
        if planned is None:
            return None
        if planned.moves:
            sources, targets = zip(*planned.moves, strict=True)
            self._model.move(sources, targets)
        chunk, inputs = self._prefetch.prepare(planned)
        self._codes = [*self._codes[-1:], self._model.encode(chunk)]
        return planned, self._model.run(inputs, self._codes)

    def _count(self, planned: Round | None) -> None:
        if planned is None:
            self._stats.slots_busy = 0.0
            return
        self._stats.slots_busy = planned.num_live_steps / planned.num_steps
        self._stats.add_round(
            num_steps=planned.num_steps,
            num_slots=planned.num_slots,
            num_live_steps=planned.num_live_steps,
        )
