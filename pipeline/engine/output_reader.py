"""Gathers the output of every stream from that of the rounds."""

# T steps of a stream, S slots, H steps of the history, V VAD heads, G segments of a round

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np

from nightscribe.engine.interface import RoundOutput
from nightscribe.engine.live import LiveOutput, LiveStream
from nightscribe.engine.rounds import Round, Segment
from nightscribe.engine.stream import OutputBuffer, Stream, StreamOutput

HISTORY_STEPS = 512


class _Span(NamedTuple):
    """Steps of one stream in the history."""

    slot: int
    begin: int
    end: int
    end_step: int  # of the stream


class _History(NamedTuple):
    """The output of the last rounds, one below the other as it comes."""

    tokens_HS: np.ndarray
    confidences_HS: np.ndarray
    vad_HSV: np.ndarray

    @classmethod
    def empty(cls, num_steps: int, num_slots: int, num_vad_heads: int) -> Self:
        return cls(
            np.empty((num_steps, num_slots), np.int32),
            np.empty((num_steps, num_slots), np.float32),
            np.empty((num_steps, num_slots, num_vad_heads), np.float32),
        )

    def write(self, first: int, output: RoundOutput) -> None:
        tables = output.tokens_TS, output.confidences_TS, output.vad_TSH
        for mine, table in zip(self, tables, strict=True):
            num_steps, num_slots = table.shape[:2]
            mine[first : first + num_steps, :num_slots] = table

    def of(self, span: _Span) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cells = slice(span.begin, span.end), span.slot
        return self.tokens_HS[cells], self.confidences_HS[cells], self.vad_HSV[cells]


class OutputReader:
    """Keeps the output of the last rounds as it comes, and looks at a stream when it ends.

    A stream makes a step at each step of the rounds, so its output lies side by side. Where the
    history is full, or slots move, what it has of the streams that go on is copied to buffers of
    their own. Live streams are told after every round.
    """

    def __init__(self, num_vad_heads: int) -> None:
        self._num_vad_heads = num_vad_heads
        self._history = _History.empty(0, 0, num_vad_heads)
        self._num_held = 0  # steps in the history
        self._begins_S = np.zeros(0, np.int64)  # where in it the stream of each slot begins
        self._before: Round | None = None
        self._buffers: dict[int, OutputBuffer] = {}  # by identity of the stream

    def read(self, planned: Round, output: RoundOutput) -> Iterator[StreamOutput]:
        """The outputs of the streams that end in a round."""
        self._make_room(planned)
        table, base = planned.table, self._num_held
        self._history.write(base, output)
        is_new_G = table.first_steps_G == 0
        begins_G = np.where(is_new_G, base + table.round_steps_G, self._begins_S[table.slots_G])
        self._begins_S[table.slots_G] = begins_G
        self._num_held, self._before = base + planned.num_steps, planned
        if planned.has_live:
            self._tell_live(planned, base)
        for stream, span in self._spans(planned, table.is_last_G, begins_G):
            yield self._output(stream, span)

    def _make_room(self, planned: Round) -> None:
        num_steps, num_slots = self._history.tokens_HS.shape
        is_full = self._num_held + planned.num_steps > num_steps
        if planned.moves or is_full or planned.num_slots > num_slots:
            self._empty()
        if planned.num_slots > num_slots or planned.num_steps > num_steps:
            num_slots = max(num_slots, planned.num_slots)
            num_steps = max(num_steps, planned.num_steps, HISTORY_STEPS)
            self._history = _History.empty(num_steps, num_slots, self._num_vad_heads)
            self._begins_S = np.zeros(num_slots, np.int64)

    def _empty(self) -> None:
        """Copy what streams that go on have in the history, and begin again."""
        if self._before is not None:
            table = self._before.table
            begins_G = self._begins_S[table.slots_G]
            for stream, span in self._spans(self._before, ~table.is_last_G, begins_G):
                if id(stream) not in self._buffers:
                    self._buffers[id(stream)] = OutputBuffer(stream, self._num_vad_heads)
                self._write(self._buffers[id(stream)], span)
        self._num_held = 0
        self._begins_S[:] = 0

    def _spans(
        self, planned: Round, which_G: np.ndarray, begins_G: np.ndarray
    ) -> Iterator[tuple[Stream, _Span]]:
        """Some streams of the round written last; without live ones, of which nothing is kept."""
        table, base = planned.table, self._num_held - planned.num_steps
        ends_G = base + table.round_steps_G + table.num_steps_G
        spans_G4 = np.stack((table.slots_G, begins_G, ends_G, table.end_steps_G), axis=1)
        indices = np.flatnonzero(which_G)
        for index, span in zip(indices.tolist(), spans_G4[indices].tolist(), strict=True):
            stream = planned.streams[index]
            if isinstance(stream, Stream):
                yield stream, _Span(*span)

    def _output(self, stream: Stream, span: _Span) -> StreamOutput:
        buffer = self._buffers.pop(id(stream), None)
        if buffer is None:
            return StreamOutput(stream, *(table.copy() for table in self._history.of(span)))
        self._write(buffer, span)
        return buffer.output()

    def _write(self, buffer: OutputBuffer, span: _Span) -> None:
        first_step = span.end_step - (span.end - span.begin)
        buffer.write(slice(first_step, span.end_step), *self._history.of(span))

    def _tell_live(self, planned: Round, base: int) -> None:
        for segment in planned.segments:
            if isinstance(segment.stream, LiveStream):
                first = base + segment.round_step
                end = first + segment.num_steps
                found = self._history.of(_Span(segment.slot, first, end, segment.end_step))
                segment.stream.on_output(_live_output(segment, *(table.copy() for table in found)))


def _live_output(
    segment: Segment, tokens_T: np.ndarray, confidences_T: np.ndarray, vad_TV: np.ndarray
) -> LiveOutput:
    return LiveOutput(
        first_step=segment.first_step,
        tokens_T=tokens_T,
        confidences_T=confidences_T,
        vad_TH=vad_TV,
        is_last=segment.is_last,
    )
