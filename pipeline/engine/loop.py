"""Keeps every slot of a model busy, a round at a time.

How a round is made, a step after the other (`stepping`) or several frames in one pass (`leaping`),
is another's: here is what both have in common.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from nightscribe.engine.scheduler import Listed, Source
from nightscribe.engine.stream import Heard, Stream


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

    def add_round(self, *, num_steps: int, num_slots: int, num_live_steps: int) -> None:
        self.num_rounds += 1
        self.num_steps += num_steps
        self.num_slot_steps += num_steps * num_slots
        self.num_live_steps += num_live_steps


class Hearing(Protocol):
    """The streams that are being heard, and the rounds under way."""

    def admit(self, source: Source) -> bool:
        """Give streams to the slots that are free; whether anything is left to hear."""

    def exchange(self) -> Iterator[Heard]:
        """Queue a round if there is one, then read an earlier one if it is its turn."""


class Engine:
    """Continuous batching over one model; each hearing begins with all slots idle."""

    def __init__(self, num_slots: int, begin: Callable[[Tally], Hearing]) -> None:
        self.tally = Tally(num_slots=num_slots)
        self._begin = begin

    def hear(self, streams: Iterable[Stream]) -> Iterator[Heard]:
        """Yield each stream once it has been heard to its end; pulled when a slot is free."""
        return self.hear_source(Listed(streams))

    def hear_source(self, source: Source) -> Iterator[Heard]:
        """As `hear`, from a source that may have nothing to give for a while."""
        hearing = self._begin(self.tally)
        while hearing.admit(source):
            began_s = time.perf_counter()
            yield from hearing.exchange()
            self.tally.busy_s += time.perf_counter() - began_s
        self.tally.slots_busy = 0.0
