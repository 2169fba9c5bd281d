"""Speculative decoding: several frames of a stream in one pass, on draft tokens.

A pass makes as many steps as it accepts draft tokens, so the output is that of single steps. As in
`loop` the host is a round ahead where that gains something, but it does not know how far each slot
has come: it learns that a stream has ended when it reads the round, and the slot waits for the next
stream until then.
"""

# C columns of a slot from the step on that the host knows it to have reached

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nightscribe.engine.encoder_prefetch import EncodeJob, chunk_of
from nightscribe.engine.interface import (
    Chunk,
    PendingRound,
    SpeculativeInput,
    SpeculativeModel,
    SpeculativeOutput,
    join_prompts,
)
from nightscribe.engine.live import LiveStream
from nightscribe.engine.loop import Engine, EngineStats
from nightscribe.engine.scheduler import StreamSource, bucket_of, buckets_of, moves_down
from nightscribe.engine.stream import OutputBuffer, Stream, StreamOutput


def speculative_engine(model: SpeculativeModel, *, reproducible: bool = False) -> Engine:
    """As `step_engine`, over a model that runs several frames in a pass."""
    buckets = buckets_of(model, reproducible)
    return Engine(buckets[-1], lambda stats: _SpeculativeLoop(model, buckets, stats))


@dataclass(slots=True, eq=False)
class SlotStream:
    """A stream in a slot, as far as the host knows."""

    slot: int
    stream: Stream
    buffer: OutputBuffer
    next_step: int = 0
    num_ahead: int = 0  # steps that the rounds under way may make at most
    first_frame: int = -1  # in the slot's first column
    end_frame: int = 0  # of the frames that are encoded

    @property
    def is_done(self) -> bool:
        return self.next_step == self.stream.num_steps

    def write(self, slot: int, output: SpeculativeOutput) -> None:
        """Take the output of the slot that the stream was in during that round."""
        num_steps = int(output.num_steps_S[slot])
        self.buffer.write(
            slice(self.next_step, self.next_step + num_steps),
            output.tokens_SW[slot, :num_steps],
            output.confidences_SW[slot, :num_steps],
            output.vad_SWH[slot, :num_steps],
        )
        self.next_step += num_steps


@dataclass(frozen=True, slots=True)
class _RunningRound:
    """A round under way: which streams were in which slots when it began."""

    pending: PendingRound[SpeculativeOutput]
    members: Sequence[tuple[int, SlotStream]]
    num_slots: int


class _SpeculativeLoop:
    """The streams in the slots, and the rounds under way."""

    def __init__(self, model: SpeculativeModel, buckets: Sequence[int], stats: EngineStats) -> None:
        self._model, self._buckets, self._stats = model, buckets, stats
        self._round_steps = model.num_passes * model.frames_per_pass
        self._layout = SpeculativeLayout(model)
        self._occupants: list[SlotStream | None] = [None] * buckets[-1]
        self._running: deque[_RunningRound] = deque()
        self._is_drained = False

    def admit(self, source: StreamSource) -> bool:
        """Fill the free slots; whether any work is left."""
        if self._is_drained:
            self._compact()
        for slot, occupant in enumerate(self._occupants):
            if occupant is None:
                stream = source.take(wait=not self._running and not any(self._occupants))
                self._is_drained = stream is None
                if stream is None:
                    break
                if isinstance(stream, LiveStream):
                    raise TypeError("live streams need an engine with one frame per pass")
                buffer = OutputBuffer(stream, self._model.num_vad_heads)
                self._occupants[slot] = SlotStream(slot, stream, buffer)
        return any(self._occupants) or bool(self._running)

    def advance(self) -> Iterator[StreamOutput]:
        """Queue a round if there is one, then read an earlier one if it is its turn."""
        live = [occupant for occupant in self._occupants if occupant is not None]
        self._stats.slots_busy = len(live)
        if live:
            self._running.append(self._launch(live))
        if not live or len(self._running) > self._model.rounds_ahead:
            yield from self._read(self._running.popleft())

    def _launch(self, live: Sequence[SlotStream]) -> _RunningRound:
        num_slots = bucket_of(1 + live[-1].slot, self._buckets)
        chunk, inputs = self._layout.lay_out(live, num_slots)
        pending = self._model.run(inputs, self._model.encode(chunk))
        return _RunningRound(pending, [(one.slot, one) for one in live], num_slots)

    def _read(self, running: _RunningRound) -> Iterator[StreamOutput]:
        output = running.pending.wait()
        self._stats.add_round(
            num_steps=self._round_steps,
            num_slots=running.num_slots,
            num_live_steps=int(output.num_steps_S.sum()),
        )
        for slot, occupant in running.members:
            occupant.num_ahead -= self._round_steps
            # Its stream may have ended in the round before, when this one was already queued.
            if not occupant.is_done:
                occupant.write(slot, output)
                if occupant.is_done:
                    self._occupants[occupant.slot] = None
                    yield occupant.buffer.output()

    def _compact(self) -> None:
        moves = moves_down([one is not None for one in self._occupants], self._buckets)
        if moves:
            sources, targets = zip(*moves, strict=True)
            self._model.move(sources, targets)
        for source, target in moves:
            occupant, self._occupants[source] = self._occupants[source], None
            assert occupant is not None
            self._occupants[target], occupant.slot = occupant, target


class SpeculativeLayout:
    """Lays rounds out, and has frames encoded just ahead of the steps that may use them."""

    def __init__(self, model: SpeculativeModel) -> None:
        self._frame_samples = model.frame_samples
        self._round_steps = model.frames_per_pass * model.num_passes
        # What rounds under way may use, what this one may, and what is encoded beyond it.
        self._num_columns = (model.rounds_ahead + 2) * self._round_steps
        self._first_new_row = max(model.bucket_sizes) * self._num_columns

    def lay_out(self, live: Sequence[SlotStream], num_slots: int) -> tuple[Chunk, SpeculativeInput]:
        """The chunk to encode for a round, and the round."""
        starts, prompt_tokens_P = join_prompts([one.stream.prompt_tokens for one in live])
        inputs = SpeculativeInput.idle(num_slots, self._num_columns, prompt_tokens_P)
        jobs: list[EncodeJob] = []
        for one, start in zip(live, starts, strict=True):
            inputs.prompts_S[one.slot] = start
            self._add_stream(one, jobs, inputs)
        return chunk_of(jobs, self._round_steps, self._frame_samples), inputs

    def _add_stream(self, one: SlotStream, jobs: list[EncodeJob], inputs: SpeculativeInput) -> None:
        slot, stream = one.slot, one.stream
        inputs.starts_S[slot] = 0 if one.next_step == one.num_ahead == 0 else -1
        inputs.ends_S[slot], inputs.bases_S[slot] = stream.num_steps, one.next_step
        inputs.max_positions_S[slot] = one.next_step + one.num_ahead
        inputs.temperatures_S[slot], inputs.seeds_S[slot] = stream.temperature, stream.seed
        forced = stream.forced_tokens[one.next_step : one.next_step + self._num_columns]
        inputs.forced_SC[slot, : len(forced)] = forced
        rows_C = self._code_rows(one, jobs)
        inputs.code_rows_SC[slot, : len(rows_C)] = rows_C
        one.first_frame = one.next_step - 1
        one.num_ahead += self._round_steps

    def _code_rows(self, one: SlotStream, jobs: list[EncodeJob]) -> np.ndarray:
        """Code rows from the known step on; frames that are not encoded yet become a job."""
        columns = np.arange(one.next_step - 1, one.end_frame) - one.first_frame
        rows_C = one.slot * self._num_columns + columns
        last_step = one.next_step + one.num_ahead + self._round_steps - 1
        if one.end_frame >= min(last_step, one.stream.num_frames):
            return rows_C
        first = one.end_frame
        one.end_frame = min(first + self._round_steps, one.stream.num_frames)
        begin = self._first_new_row + len(jobs) * self._round_steps
        jobs.append(EncodeJob(one.slot, one.stream, first, one.end_frame))
        return np.concatenate((rows_C, begin + np.arange(one.end_frame - first)))
