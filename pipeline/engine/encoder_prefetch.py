"""Turns a planned round into model input: a chunk for the encoder, and every slot's steps.

The encoder runs just ahead of the language model. A stream uses at most a round of frames per
round, so one chunk per stream and round is enough; what is left of a chunk is used in the next
round. So the codes of a round are in its own chunk or in the one before.
"""

# T steps of a round, S slots, P tokens of all prompts, G segments, J jobs

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nightscribe.engine.interface import HOLD, NO_TOKEN, Chunk, RoundInput, join_prompts
from nightscribe.engine.live import LiveStream
from nightscribe.engine.rounds import Round, Segment, SegmentTable
from nightscribe.engine.stream import Stream


class EncodeJob(NamedTuple):
    """The next frames of the stream in a slot."""

    slot: int
    stream: Stream | LiveStream
    first_frame: int
    end_frame: int

    @property
    def continues(self) -> bool:
        return self.stream.is_open or self.end_frame < self.stream.num_frames

    def piece(self, frame_samples: int) -> tuple[int, np.ndarray]:
        """Samples of these frames, as `piece_of`."""
        return piece_of(
            self.stream, self.first_frame * frame_samples, self.end_frame * frame_samples
        )


def piece_of(stream: Stream | LiveStream, first: int, end: int) -> tuple[int, np.ndarray]:
    """How much silence a span of a stream begins with, and the samples after it.

    Nothing is copied, so there are fewer where the stream's samples end.
    """
    before = stream.num_silent_samples
    if first >= before:
        return 0, stream.samples[first - before : end - before]
    return min(end, before) - first, stream.samples[0 : max(end - before, 0)]


def chunk_of(jobs: Sequence[EncodeJob], num_frames: int, frame_samples: int) -> Chunk:
    """The chunk of these jobs, none of which is longer than `num_frames`."""
    silent_J, samples = split([job.piece(frame_samples) for job in jobs])
    return Chunk(
        num_frames=num_frames,
        frames_J=np.array([job.end_frame - job.first_frame for job in jobs], np.int64),
        samples=samples,
        silent_J=silent_J,
        slots_J=np.array([job.slot for job in jobs], np.int64),
        fresh_J=np.array([job.first_frame == 0 for job in jobs], bool),
        continues_J=np.array([job.continues for job in jobs], bool),
    )


def split(pieces: Sequence[tuple[int, np.ndarray]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Numbers of silent samples, and the samples after them."""
    silent_J = np.array([num_silent for num_silent, _ in pieces], np.int64)
    return silent_J, [samples_N for _, samples_N in pieces]


class _CodeRows(NamedTuple):
    """Rows of a segment's codes: of frame 0, as if it were in the older or the newer chunk."""

    older_G: np.ndarray
    newer_G: np.ndarray
    first_newer_frames_G: np.ndarray


class EncoderPrefetch:
    """Keeps every stream's codes just ahead of the steps that use them."""

    def __init__(self, frame_samples: int, chunk_frames: int, *, ahead: bool = True) -> None:
        """Without `ahead` rounds may differ in length: a chunk holds what its round uses."""
        self._frame_samples = frame_samples
        self._chunk_frames = chunk_frames
        self._ahead = ahead
        self._previous_rows = 0  # frames in the chunk before
        # Of the stream in each slot: its frames that are encoded, and the row of its frame 0 as if
        # that were in the chunk that it has been in last.
        self._ends_S, self._rows_S = np.zeros((2, 0), np.int64)

    def prepare(self, planned: Round) -> tuple[Chunk, RoundInput]:
        """The chunk to encode for a round, and its steps over (previous chunk, this chunk)."""
        if planned.num_slots > len(self._ends_S):
            self._make_room(planned.num_slots)
        for source, target in planned.moves:
            self._ends_S[target], self._rows_S[target] = self._ends_S[source], self._rows_S[source]
        chunk, rows = self._encode(planned)
        special = planned.special_segments
        inputs = _idle_inputs(planned, special)
        _fill(inputs, planned.table, rows)
        for segment in special:
            _fill_choices(inputs, segment)
        return chunk, inputs

    def _make_room(self, num_slots: int) -> None:
        more_S = np.zeros(num_slots - len(self._ends_S), np.int64)
        self._ends_S = np.concatenate((self._ends_S, more_S))
        self._rows_S = np.concatenate((self._rows_S, more_S))

    def _encode(self, planned: Round) -> tuple[Chunk, _CodeRows]:
        """Frames that are not encoded yet become jobs; where the codes of all segments are."""
        table, first_row = planned.table, self._previous_rows
        is_new_G = table.first_steps_G == 0
        before_G = np.where(is_new_G, 0, self._ends_S[table.slots_G])
        older_G = np.where(is_new_G, 0, self._rows_S[table.slots_G])
        jobs_J = np.flatnonzero(before_G < table.end_steps_G - 1)
        first_J, end_J = before_G[jobs_J], self._next_ends(table, before_G)[jobs_J]
        rows_J = self._chunk_frames * np.arange(len(jobs_J)) - first_J
        ends_G, rows_G, newer_G = before_G.copy(), older_G.copy(), older_G.copy()
        ends_G[jobs_J], rows_G[jobs_J], newer_G[jobs_J] = end_J, rows_J, first_row + rows_J
        self._ends_S[table.slots_G], self._rows_S[table.slots_G] = ends_G, rows_G
        self._previous_rows = len(jobs_J) * self._chunk_frames
        chunk = self._chunk(planned, jobs_J, first_J, end_J)
        return chunk, _CodeRows(older_G, newer_G, before_G)

    def _next_ends(self, table: SegmentTable, before_G: np.ndarray) -> np.ndarray:
        if not self._ahead:
            return table.end_steps_G - 1
        return np.minimum(before_G + self._chunk_frames, table.stream_steps_G - 1)

    def _chunk(
        self, planned: Round, jobs_J: np.ndarray, first_J: np.ndarray, end_J: np.ndarray
    ) -> Chunk:
        spans = zip(
            [planned.streams[job] for job in jobs_J.tolist()],
            (first_J * self._frame_samples).tolist(),
            (end_J * self._frame_samples).tolist(),
            strict=True,
        )
        silent_J, samples = split([piece_of(*span) for span in spans])
        return Chunk(
            num_frames=self._chunk_frames,
            frames_J=end_J - first_J,
            samples=samples,
            silent_J=silent_J,
            slots_J=planned.table.slots_G[jobs_J],
            fresh_J=first_J == 0,
            continues_J=end_J < planned.table.stream_steps_G[jobs_J] - 1,
        )


def _idle_inputs(planned: Round, special: Sequence[Segment]) -> RoundInput:
    shape = planned.num_steps, planned.num_slots
    starts, prompt_tokens_P = _prompts(special)
    inputs = RoundInput(
        positions_TS=np.zeros(shape, np.int32),
        code_rows_TS=np.zeros(shape, np.int64),
        forced_TS=np.full(shape, NO_TOKEN, np.int32),
        temperatures_TS=np.zeros(shape, np.float32),
        seeds_TS=np.zeros(shape, np.int64),
        prompts_TS=np.zeros(shape, np.int64),
        prompt_tokens_P=prompt_tokens_P,
        **_terms(special, shape),
    )
    for segment, start in zip(special, starts, strict=True):
        if start:
            inputs.prompts_TS[_span(segment)] = start
    for hold in planned.holds:
        span = slice(hold.round_step, None), hold.slot
        inputs.positions_TS[span], inputs.forced_TS[span] = hold.next_step, HOLD
    return inputs


def _terms(special: Sequence[Segment], shape: tuple[int, int]) -> dict[str, Any]:
    """The tries of all streams, each once, and which of them a slot uses at a step."""
    tries = {id(one.stream.term_edges_E3): one.stream.term_edges_E3 for one in special}
    tries.pop(id(None), None)
    if not tries:
        return {}
    number_of = {key: number for number, key in enumerate(tries, start=1)}
    terms_TS = np.zeros(shape, np.int64)
    for segment in special:
        terms_TS[_span(segment)] = number_of.get(id(segment.stream.term_edges_E3), 0)
    return {"terms_TS": terms_TS, "term_edges": tuple(tries.values())}


def _prompts(special: Sequence[Segment]) -> tuple[list[int], np.ndarray]:
    """Where each segment's prompt begins, and the tokens of all prompts.

    A stream outputs at most one token per step, so a prompt is cut to the steps it can reach.
    """
    prompts = ((one.stream.prompt_tokens, one.end_step) for one in special)
    return join_prompts([prompt and prompt[:end_step] for prompt, end_step in prompts])


def _fill(inputs: RoundInput, table: SegmentTable, rows: _CodeRows) -> None:
    """Write the steps of all segments at once."""
    segments_TS = _segments_of_cells(table, inputs.positions_TS.shape)

    def cells(values_G: np.ndarray) -> np.ndarray:
        return np.concatenate(([0], values_G, [0])).take(segments_TS)

    is_idle_TS = (segments_TS == 0) | (segments_TS > len(table.slots_G))
    steps_TS = cells(table.first_steps_G - table.round_steps_G)
    steps_TS += np.arange(inputs.num_steps)[:, None]
    steps_TS[is_idle_TS] = 0
    is_newer_TS = steps_TS > cells(rows.first_newer_frames_G)  # of its frame, which is one less
    rows_TS = np.where(is_newer_TS, cells(rows.newer_G), cells(rows.older_G))
    rows_TS += steps_TS - 1
    np.copyto(inputs.code_rows_TS, rows_TS, where=steps_TS > 0)
    np.copyto(inputs.positions_TS, steps_TS, where=~is_idle_TS)


def _segments_of_cells(table: SegmentTable, shape: tuple[int, ...]) -> np.ndarray:
    """The segment at each step of each slot, from 1 on; 0 before the first, G + 1 after the last.

    A slot's segments leave no gap, so only their beginnings and the last end are written.
    """
    num_segments = len(table.slots_G)
    segments_TS = np.zeros(shape, np.int64)
    ends_G = table.round_steps_G + table.num_steps_G
    early_E = np.flatnonzero(ends_G < len(segments_TS))
    segments_TS[ends_G[early_E], table.slots_G[early_E]] = num_segments + 1
    segments_TS[table.round_steps_G, table.slots_G] = np.arange(1, num_segments + 1)
    return np.maximum.accumulate(segments_TS, axis=0)


def _fill_choices(inputs: RoundInput, segment: Segment) -> None:
    """What few streams have: forced tokens, and tokens that are sampled."""
    stream = segment.stream
    if stream.temperature or stream.seed:
        span = _span(segment)
        inputs.temperatures_TS[span], inputs.seeds_TS[span] = stream.temperature, stream.seed
    if stream.forced_tokens:
        forced = stream.forced_tokens[segment.first_step : segment.end_step]
        inputs.forced_TS[_span(segment)][: len(forced)] = forced


def _span(segment: Segment) -> tuple[slice, int]:
    """Where the steps of a segment are in a table of the round."""
    return slice(segment.round_step, segment.round_step + segment.num_steps), segment.slot
