"""Which stream runs in which slot at which step. Touches no tensors: lengths are known up front."""

# S slots, G segments of a round

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np

from nightscribe.engine.interface import SlotModel
from nightscribe.engine.live import LiveSource, LiveStream
from nightscribe.engine.rounds import NO_END, Hold, Round, SegmentTable
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


class _Segments(NamedTuple):
    """Segments with their streams; a table has the columns of `SegmentTable` as rows."""

    streams: list[Stream | LiveStream]
    table_6G: np.ndarray


class _Occupants:
    """The streams in the slots and how far each is: zeros where there is none."""

    def __init__(self, num_slots: int) -> None:
        self.streams: list[Stream | LiveStream | None] = [None] * num_slots
        self.next_steps_S = np.zeros(num_slots, np.int64)
        self.ready_steps_S = np.zeros(num_slots, np.int64)  # whose audio is there
        self.stream_steps_S = np.zeros(num_slots, np.int64)  # or NO_END
        self.is_plain_S = np.ones(num_slots, np.int64)
        self.paused_rounds_S = np.zeros(num_slots, np.int64)  # since the last step

    @property
    def is_ready_S(self) -> np.ndarray:
        return self.ready_steps_S > self.next_steps_S

    def put(self, slot: int, stream: Stream | LiveStream, next_step: int) -> None:
        self.streams[slot] = stream
        self.next_steps_S[slot] = next_step
        self.ready_steps_S[slot] = stream.num_ready_steps
        self.stream_steps_S[slot] = steps_of(stream)
        self.is_plain_S[slot] = stream.is_plain

    def clear(self, slot: int) -> None:
        self.streams[slot] = None
        self.next_steps_S[slot] = self.ready_steps_S[slot] = self.stream_steps_S[slot] = 0
        self.paused_rounds_S[slot] = 0

    def move(self, source: int, target: int) -> None:
        stream = self.streams[source]
        assert stream is not None
        self.put(target, stream, int(self.next_steps_S[source]))
        self.paused_rounds_S[target] = self.paused_rounds_S[source]
        self.clear(source)

    def live(self) -> Iterator[tuple[int, LiveStream]]:
        for slot, stream in enumerate(self.streams):
            if isinstance(stream, LiveStream):
                yield slot, stream

    def ready_of_live(self) -> list[int]:
        """Steps that live streams are ready for, without those that are idle."""
        slots = [slot for slot, _ in self.live()]
        ready_L = self.ready_steps_S[slots] - self.next_steps_S[slots]
        return ready_L[(ready_L > 0) | (self.paused_rounds_S[slots] < IDLE_ROUNDS)].tolist()

    def advance(self, round_steps: int) -> _Segments:
        """Every stream that is ready takes its next steps; a slot whose stream ends is free."""
        slots_G = np.flatnonzero(self.is_ready_S)
        streams = [self.streams[slot] for slot in slots_G.tolist()]
        first_G, total_G = self.next_steps_S[slots_G], self.stream_steps_S[slots_G]
        num_G = np.minimum(self.ready_steps_S[slots_G] - first_G, round_steps)
        plain_G = self.is_plain_S[slots_G]
        end_G = first_G + num_G
        self.paused_rounds_S[(self.stream_steps_S > 0) & ~self.is_ready_S] += 1
        self.paused_rounds_S[slots_G] = 0
        self.next_steps_S[slots_G] = end_G
        for slot in slots_G[end_G == total_G].tolist():
            self.clear(slot)
        table_6G = np.stack((slots_G, first_G, np.zeros_like(num_G), num_G, total_G, plain_G))
        return _Segments(cast(list[Stream | LiveStream], streams), table_6G)


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
        self._occupants = _Occupants(self._buckets[-1])
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
        moves = self._compact() if self._is_drained and self._occupants.is_ready_S.any() else ()
        free = [(0, slot) for slot, one in enumerate(self._occupants.streams) if one is None]
        round_steps = self._round_length()
        going = self._occupants.advance(round_steps)
        slots_G, _, _, num_G, *_ = going.table_6G
        is_last_G = SegmentTable(*going.table_6G).is_last_G
        free += zip(num_G[is_last_G].tolist(), slots_G[is_last_G].tolist(), strict=True)
        new = self._admit(source, free, round_steps, wait=wait and not going.streams)
        if not going.streams and not new.streams:
            return None
        return self._round(going, new, moves)

    def _round(self, going: _Segments, new: _Segments, moves: tuple[tuple[int, int], ...]) -> Round:
        table = SegmentTable(*np.concatenate((going.table_6G, new.table_6G), axis=1))
        num_slots = bucket_of(1 + int(table.slots_G.max()), self._buckets)
        num_steps = int((table.round_steps_G + table.num_steps_G).max())
        return Round(
            num_slots=num_slots,
            num_steps=num_steps,
            streams=going.streams + new.streams,
            table=table,
            moves=moves,
            holds=self._holds(table, num_slots, num_steps) if self._has_live else (),
            has_live=self._has_live,
        )

    def _round_length(self) -> int:
        """No longer than any live stream has audio for: the next frames of others must not wait."""
        if not self._has_live:
            return self._round_steps
        return max(1, min([self._round_steps, *self._occupants.ready_of_live()]))

    def _admit(
        self,
        source: StreamSource,
        free: list[tuple[int, int]],
        round_steps: int,
        *,
        wait: bool,
    ) -> _Segments:
        """Give each stream the slot that is free first, until the round is full."""
        heapq.heapify(free)
        streams: list[Stream | LiveStream] = []
        rows: list[tuple[int, ...]] = []
        while free and free[0][0] < round_steps:
            stream = source.take(wait=wait and not streams)
            self._is_drained = stream is None
            if stream is None:
                break
            self._has_live |= isinstance(stream, LiveStream)
            round_step, slot = heapq.heappop(free)
            num_steps = min(stream.num_ready_steps, round_steps - round_step)
            total = steps_of(stream)
            streams.append(stream)
            rows.append((slot, 0, round_step, num_steps, total, stream.is_plain))
            if num_steps == total:
                heapq.heappush(free, (round_step + num_steps, slot))
            else:
                self._occupants.put(slot, stream, num_steps)
        return _Segments(streams, np.array(rows, np.int64).reshape(-1, 6).T)

    def _retire(self) -> None:
        """Free the slots of live streams that were cancelled, or closed after their last step."""
        self._has_live = False
        for slot, stream in self._occupants.live():
            next_step = int(self._occupants.next_steps_S[slot])
            if stream.is_cancelled or next_step == steps_of(stream):
                self._occupants.clear(slot)
            else:
                self._occupants.put(slot, stream, next_step)
                self._has_live = True

    def _holds(self, table: SegmentTable, num_slots: int, num_steps: int) -> tuple[Hold, ...]:
        ends_S = np.zeros(num_slots, np.int64)
        ends_S[table.slots_G] = table.round_steps_G + table.num_steps_G
        next_steps_S = self._occupants.next_steps_S.tolist()
        return tuple(
            Hold(slot, end_step, next_steps_S[slot])
            for slot, end_step in enumerate(ends_S.tolist())
            if self._occupants.streams[slot] is not None and end_step < num_steps
        )

    def _compact(self) -> tuple[tuple[int, int], ...]:
        moves = moves_down([one is not None for one in self._occupants.streams], self._buckets)
        for source, target in moves:
            self._occupants.move(source, target)
        return moves


def steps_of(stream: Stream | LiveStream) -> int:
    """Of the whole stream, if its end is known."""
    return NO_END if stream.is_open else stream.num_steps


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
