"""The plan of a round: which stream makes which of its steps in which slot.

A round has hundreds of segments, so they are columns of arrays; `Round.segments` has them one by
one, for where that does not matter. G segments.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nightscribe.engine.live import LiveStream
from nightscribe.engine.stream import Stream

NO_END = np.iinfo(np.int64).max  # steps of a stream whose end nobody knows


class Segment(NamedTuple):
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


class SegmentTable(NamedTuple):
    """Segments by the step of the round at which they begin; those of a slot leave no gap."""

    slots_G: np.ndarray
    first_steps_G: np.ndarray  # of the stream
    round_steps_G: np.ndarray  # of the round
    num_steps_G: np.ndarray
    stream_steps_G: np.ndarray  # of the whole stream, or NO_END
    is_plain_G: np.ndarray  # 1 where the stream is plain, else 0

    @property
    def end_steps_G(self) -> np.ndarray:
        return self.first_steps_G + self.num_steps_G

    @property
    def is_last_G(self) -> np.ndarray:
        """Whether the stream ends with the segment."""
        return self.end_steps_G == self.stream_steps_G


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """A plan for the next steps: first the moves, then the segments over `num_slots` slots."""

    num_slots: int
    num_steps: int
    streams: Sequence[Stream | LiveStream]  # of the segments
    table: SegmentTable
    moves: tuple[tuple[int, int], ...]  # (source, target)
    holds: tuple[Hold, ...] = ()
    has_live: bool = False

    @property
    def num_live_steps(self) -> int:
        return int(self.table.num_steps_G.sum())

    @property
    def segments(self) -> list[Segment]:
        return list(self._only(range(len(self.streams))))

    @property
    def special_segments(self) -> list[Segment]:
        """Those whose streams are not plain."""
        return list(self._only(np.flatnonzero(self.table.is_plain_G == 0).tolist()))

    def _only(self, indices: Iterable[int]) -> Iterator[Segment]:
        columns = (*self.table[:4], self.table.is_last_G)
        for index in indices:
            slot, first_step, round_step, num_steps, is_last = (
                x_G[index].item() for x_G in columns
            )
            stream = self.streams[index]
            yield Segment(slot, stream, first_step, round_step, num_steps, is_last)
