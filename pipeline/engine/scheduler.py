"""Which stream runs in which slot at which step. Touches no tensors: lengths are known up front."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from nightscribe.engine.interface import SlotModel
from nightscribe.engine.live import LiveSource, LiveStream
from nightscribe.engine.stream import Stream

# A live stream that has paused for so many rounds is idle: rounds are no shorter for its sake.
IDLE_ROUNDS = 64


class StreamSource(Protocol):
    """Where streams come from."""

    def take(self, *, wait: bool) -> Stream | LiveStream | None:
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
    stream: Stream | LiveStream
    first_step: int  # of the stream
    round_step: int  # of the round
    num_steps: int
    is_last: bool  # the stream ends with it

    @property
    def end_step(self) -> int:
        return self.first_step + self.num_steps


class Hold(NamedTuple):
    """A slot whose live stream pauses from a step of the round on."""

    slot: int
    round_step: int
    next_step: int  # of the stream


@dataclass(frozen=True, slots=True)
class Round:
    """A plan for the next steps: first the moves, then the segments over `num_slots` slots."""

    num_slots: int
    num_steps: int
    segments: tuple[Segment, ...]
    moves: tuple[tuple[int, int], ...]  # (source, target)
    holds: tuple[Hold, ...] = ()

    @property
    def num_live_steps(self) -> int:
        return sum(segment.num_steps for segment in self.segments)


@dataclass(slots=True)
class _Occupant:
    stream: Stream | LiveStream
    next_step: int = 0
    paused_rounds: int = 0  # since its last step

    @property
    def num_ready_steps(self) -> int:
        return self.stream.num_ready_steps - self.next_step

    @property
    def is_live(self) -> bool:
        return isinstance(self.stream, LiveStream)

    @property
    def limits_rounds(self) -> bool:
        """A live stream that has a frame, or waits for the next one and is not idle."""
        return self.is_live and (self.num_ready_steps > 0 or self.paused_rounds < IDLE_ROUNDS)

    @property
    def is_done(self) -> bool:
        """A live stream that was cancelled, or closed after its last step."""
        if not isinstance(self.stream, LiveStream):
            return False
        is_finished = not self.stream.is_open and self.num_ready_steps == 0
        return is_finished or self.stream.is_cancelled


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
        self._has_live = False

    def plan(self, source: StreamSource, *, wait: bool) -> Round | None:
        """The next round, or None if no slot has a step to make and the source gives none."""
        while True:
            if self._has_live:
                _live(source).receive(wait=False)
                self._retire()
            planned = self._plan(source, wait=wait and not self._has_live)
            if planned is not None or not wait or not self._has_live:
                return planned
            _live(source).receive(wait=True)

    def _plan(self, source: StreamSource, *, wait: bool) -> Round | None:
        moves = self._compact() if self._is_drained and self._has_ready() else ()
        free = [(0, slot) for slot, occupant in enumerate(self._occupants) if occupant is None]
        round_steps = self._round_length()
        segments = self._continue(round_steps)
        free += [(s.num_steps, s.slot) for s in segments if s.is_last]
        segments += self._admit(source, free, round_steps, wait=wait and not segments)
        if not segments:
            return None
        num_slots = bucket_of(1 + max(segment.slot for segment in segments), self._buckets)
        num_steps = max(segment.round_step + segment.num_steps for segment in segments)
        return Round(
            num_slots=num_slots,
            num_steps=num_steps,
            segments=tuple(segments),
            moves=tuple(moves),
            holds=self._holds(segments, num_slots, num_steps) if self._has_live else (),
        )

    def _has_ready(self) -> bool:
        return any(one is not None and one.num_ready_steps for one in self._occupants)

    def _round_length(self) -> int:
        """No longer than any live stream has audio for: the next frames of others must not wait."""
        if not self._has_live:
            return self._round_steps
        ready = [one.num_ready_steps for one in self._occupants if one and one.limits_rounds]
        return max(1, min([self._round_steps, *ready]))

    def _continue(self, round_steps: int) -> list[Segment]:
        segments = []
        for slot, occupant in enumerate(self._occupants):
            if occupant is None:
                continue
            if occupant.num_ready_steps:
                segments.append(self._advance(slot, occupant, 0, round_steps))
            else:
                occupant.paused_rounds += 1
        return segments

    def _admit(
        self,
        source: StreamSource,
        free: list[tuple[int, int]],
        round_steps: int,
        *,
        wait: bool,
    ) -> list[Segment]:
        """Give each stream the slot that is free first, until the round is full."""
        heapq.heapify(free)
        admitted: list[Segment] = []
        while free and free[0][0] < round_steps:
            stream = source.take(wait=wait and not admitted)
            self._is_drained = stream is None
            if stream is None:
                break
            self._has_live |= isinstance(stream, LiveStream)
            round_step, slot = heapq.heappop(free)
            segment = self._advance(slot, _Occupant(stream), round_step, round_steps)
            admitted.append(segment)
            if segment.is_last:
                heapq.heappush(free, (round_step + segment.num_steps, slot))
        return admitted

    def _advance(
        self, slot: int, occupant: _Occupant, round_step: int, round_steps: int
    ) -> Segment:
        stream, first_step = occupant.stream, occupant.next_step
        num_steps = min(occupant.num_ready_steps, round_steps - round_step)
        occupant.next_step += num_steps
        occupant.paused_rounds = 0
        is_last = not stream.is_open and occupant.next_step == stream.num_steps
        self._occupants[slot] = None if is_last else occupant
        return Segment(slot, stream, first_step, round_step, num_steps, is_last)

    def _retire(self) -> None:
        """Free the slots of live streams that were cancelled, or closed after their last step."""
        for slot, occupant in enumerate(self._occupants):
            if occupant is not None and occupant.is_done:
                self._occupants[slot] = None
        self._has_live = any(one is not None and one.is_live for one in self._occupants)

    def _holds(
        self, segments: Sequence[Segment], num_slots: int, num_steps: int
    ) -> tuple[Hold, ...]:
        ends = {one.slot: one.round_step + one.num_steps for one in segments}
        return tuple(
            Hold(slot, ends.get(slot, 0), occupant.next_step)
            for slot, occupant in enumerate(self._occupants[:num_slots])
            if occupant is not None and ends.get(slot, 0) < num_steps
        )

    def _compact(self) -> tuple[tuple[int, int], ...]:
        moves = moves_down([occupant is not None for occupant in self._occupants], self._buckets)
        for source, target in moves:
            self._occupants[target] = self._occupants[source]
            self._occupants[source] = None
        return moves


def _live(source: StreamSource) -> LiveSource:
    """The source of a live stream; no other kind gives any."""
    return cast(LiveSource, source)


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
