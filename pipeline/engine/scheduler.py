"""Which stream runs in which slot at which step. Touches no tensors: lengths are known up front."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nightscribe.engine.interface import SlotModel
from nightscribe.engine.stream import Stream


class StreamSource(Protocol):
    """Where streams come from."""

    def take(self, *, wait: bool) -> Stream | None:
        """The next stream; None if there is none now (or, with `wait`, none ever again)."""


class IterableSource:
    """A source over an iterable, pulled one by one."""

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._streams = iter(streams)

    def take(self, *, wait: bool) -> Stream | None:
        return next(self._streams, None)


@dataclass(frozen=True, slots=True)
class Segment:
    """The steps of one round that one stream spends in its slot."""

    slot: int
    stream: Stream
    first_step: int  # of the stream
    round_step: int  # of the round
    num_steps: int

    @property
    def end_step(self) -> int:
        return self.first_step + self.num_steps

    @property
    def is_last(self) -> bool:
        return self.end_step == self.stream.num_steps


@dataclass(frozen=True, slots=True)
class Round:
    """A plan for the next steps: first the moves, then the segments over `num_slots` slots."""

    num_slots: int
    num_steps: int
    segments: tuple[Segment, ...]
    moves: tuple[tuple[int, int], ...]  # (source, target)

    @property
    def num_live_steps(self) -> int:
        return sum(segment.num_steps for segment in self.segments)


@dataclass(slots=True)
class _Occupant:
    stream: Stream
    next_step: int = 0


class Scheduler:
    """Admits and retires streams; a slot whose stream ends takes the next at the very next step."""

    def __init__(self, buckets: Sequence[int], round_steps: int) -> None:
        """`buckets` are the numbers of slots a round may run over; the largest is all of them."""
        if not buckets or min(buckets) < 1:
            raise ValueError(f"numbers of slots must be positive, got {list(buckets)}")
        if round_steps < 1:
            raise ValueError(f"a round must have at least 1 step, got {round_steps}")
        self._buckets = sorted(set(buckets))
        self._round_steps = round_steps
        self._occupants: list[_Occupant | None] = [None] * self._buckets[-1]
        self._is_drained = False

    def plan(self, source: StreamSource, *, wait: bool) -> Round | None:
        """The next round, or None if no slot holds a stream and the source gives none."""
        moves = self._compact() if self._is_drained else ()
        free = [(0, slot) for slot, occupant in enumerate(self._occupants) if occupant is None]
        segments = self._continue()
        free += [(s.num_steps, s.slot) for s in segments if s.is_last]
        segments += self._admit(source, free, wait=wait and not segments)
        if not segments:
            return None
        return Round(
            num_slots=bucket_of(1 + max(segment.slot for segment in segments), self._buckets),
            num_steps=max(segment.round_step + segment.num_steps for segment in segments),
            segments=tuple(segments),
            moves=tuple(moves),
        )

    def _continue(self) -> list[Segment]:
        return [
            self._advance(slot, occupant, round_step=0)
            for slot, occupant in enumerate(self._occupants)
            if occupant is not None
        ]

    def _admit(
        self, source: StreamSource, free: list[tuple[int, int]], *, wait: bool
    ) -> list[Segment]:
        """Give each stream the slot that is free first, until the round is full."""
        heapq.heapify(free)
        admitted: list[Segment] = []
        while free and free[0][0] < self._round_steps:
            stream = source.take(wait=wait and not admitted)
            self._is_drained = stream is None
            if stream is None:
                break
            round_step, slot = heapq.heappop(free)
            segment = self._advance(slot, _Occupant(stream), round_step)
            admitted.append(segment)
            if segment.is_last:
                heapq.heappush(free, (round_step + segment.num_steps, slot))
        return admitted

    def _advance(self, slot: int, occupant: _Occupant, round_step: int) -> Segment:
        left = occupant.stream.num_steps - occupant.next_step
        num_steps = min(left, self._round_steps - round_step)
        segment = Segment(slot, occupant.stream, occupant.next_step, round_step, num_steps)
        occupant.next_step += num_steps
        self._occupants[slot] = None if segment.is_last else occupant
        return segment

    def _compact(self) -> tuple[tuple[int, int], ...]:
        moves = moves_down([occupant is not None for occupant in self._occupants], self._buckets)
        for source, target in moves:
            self._occupants[target] = self._occupants[source]
            self._occupants[source] = None
        return moves


def moves_down(is_live: Sequence[bool], buckets: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Moves (source, target) out of the upper slots, if a smaller bucket then suffices."""
    live = [slot for slot, is_one in enumerate(is_live) if is_one]
    if not live or bucket_of(len(live), buckets) == bucket_of(live[-1] + 1, buckets):
        return ()
    sources = [slot for slot in live if slot >= len(live)]
    targets = [slot for slot in range(len(live)) if not is_live[slot]]
    return tuple(zip(sources, targets, strict=True))


def bucket_of(num_slots: int, buckets: Sequence[int]) -> int:
    """The smallest number of slots that a round may run over to have this many."""
    return next(bucket for bucket in buckets if bucket >= num_slots)


def buckets_of(model: SlotModel, reproducible: bool) -> Sequence[int]:
    """Numbers of slots that rounds run over, rising; only the largest if `reproducible`."""
    sizes = sorted(set(model.bucket_sizes))
    return sizes[-1:] if reproducible else sizes
