"""Hears several frames of a stream in one pass: as many steps as turn out right.

As in `stepping` the host is a round ahead where that gains something, but not in what it knows:
that a stream has ended it learns when it reads the round, and its slot waits for the next until
then. What is said is what single steps say.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nightscribe.engine.loop import Engine, Tally
from nightscribe.engine.scheduler import Source, bucket_of, buckets_of, moves_down
from nightscribe.engine.speculative_interface import Leaping, LeapModel
from nightscribe.engine.speculative_layout import Layout, Occupant
from nightscribe.engine.stream import Heard, Listening


def leaping_engine(model: LeapModel, *, reproducible: bool = False) -> Engine:
    """As `stepping_engine`, over a model that leaps."""
    buckets = buckets_of(model, reproducible)
    return Engine(buckets[-1], lambda tally: _Leaping(model, buckets, tally))


@dataclass(frozen=True, slots=True)
class _Running:
    """A round under way: who sat where when it began, over how many slots."""

    said: Leaping
    seats: Sequence[tuple[int, Occupant]]
    num_slots: int


class _Leaping:
    """Who sits in which slot, and the rounds under way."""

    def __init__(self, model: LeapModel, buckets: Sequence[int], tally: Tally) -> None:
        self._model, self._buckets, self._tally = model, buckets, tally
        self._width = model.num_passes * model.frames_per_pass
        self._layout = Layout(model)
        self._occupants: list[Occupant | None] = [None] * buckets[-1]
        self._running: deque[_Running] = deque()
        self._is_drained = False

    def admit(self, source: Source) -> bool:
        """Fill the free slots; whether anything is left to hear."""
        if self._is_drained:
            self._compact()
        for slot, occupant in enumerate(self._occupants):
            if occupant is None:
                stream = source.take(wait=not self._running and not any(self._occupants))
                self._is_drained = stream is None
                if stream is None:
                    break
                listening = Listening(stream, self._model.num_heads)
                self._occupants[slot] = Occupant(slot, stream, listening)
        return any(self._occupants) or bool(self._running)

    def exchange(self) -> Iterator[Heard]:
        """Queue a round if there is one, then read an earlier one if it is its turn."""
        held = [one for one in self._occupants if one is not None]
        self._tally.slots_busy = len(held)
        if held:
            self._running.append(self._launched(held))
        if not held or len(self._running) > self._model.rounds_ahead:
            yield from self._read(self._running.popleft())

    def _launched(self, held: Sequence[Occupant]) -> _Running:
        num_slots = bucket_of(1 + held[-1].slot, self._buckets)
        chunk, leaps = self._layout.lay(held, num_slots)
        said = self._model.run(leaps, self._model.encode(chunk))
        return _Running(said, [(one.slot, one) for one in held], num_slots)

    def _read(self, running: _Running) -> Iterator[Heard]:
        leapt = running.said.wait()
        self._tally.add_round(
            num_steps=self._width,
            num_slots=running.num_slots,
            num_live_steps=int(leapt.num_steps_S.sum()),
        )
        for slot, occupant in running.seats:
            occupant.num_ahead -= self._width
            # Its stream may have ended in the round before, when this one was under way.
            if not occupant.is_heard:
                occupant.write(slot, leapt)
                if occupant.is_heard:
                    self._occupants[occupant.slot] = None
                    yield occupant.listening.heard()

    def _compact(self) -> None:
        moves = moves_down([one is not None for one in self._occupants], self._buckets)
        if moves:
            sources, targets = zip(*moves, strict=True)
            self._model.move(sources, targets)
        for source, target in moves:
            occupant, self._occupants[source] = self._occupants[source], None
            assert occupant is not None
            self._occupants[target], occupant.slot = occupant, target
