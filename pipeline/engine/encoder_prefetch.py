"""Turns a planned round into model input: a chunk for the encoder, and every slot's steps.

The encoder runs just ahead of the language model. A stream uses at most a round of frames per
round, so one chunk per stream and round is enough; what is left of a chunk is used in the next
round. So the codes of a round are in its own chunk or in the one before.
"""

# T steps of a round, S slots, P tokens of all prompts, G segments, C cells of a table

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nightscribe.engine.interface import HOLD, NO_TOKEN, Chunk, RoundInput, join_prompts
from nightscribe.engine.live import LiveStream
from nightscribe.engine.scheduler import Round, Segment
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

    def samples(self, frame_samples: int) -> np.ndarray:
        """Samples of these frames; fewer where the stream's samples end."""
        first, end = self.first_frame * frame_samples, self.end_frame * frame_samples
        return self.stream.samples[first:end]


def chunk_of(jobs: Sequence[EncodeJob], num_frames: int, frame_samples: int) -> Chunk:
    """The chunk of these jobs, none of which is longer than `num_frames`."""
    return Chunk(
        num_frames=num_frames,
        frames_J=np.array([job.end_frame - job.first_frame for job in jobs], np.int64),
        samples=[job.samples(frame_samples) for job in jobs],
        slots_J=np.array([job.slot for job in jobs], np.int64),
        fresh_J=np.array([job.first_frame == 0 for job in jobs], bool),
        continues_J=np.array([job.continues for job in jobs], bool),
    )


class _Encoded(NamedTuple):
    """Where the newest codes of a slot's stream are."""

    chunk_index: int
    row: int  # of the stream's first frame in this chunk, counted in frames of the chunk
    first_frame: int
    end_frame: int


class _CodePlaces(NamedTuple):
    """Rows of a stream's codes: of frame 0, as if it were in the older or the newer chunk."""

    older_row: int
    newer_row: int
    first_newer_frame: int


_NOTHING = _Encoded(chunk_index=0, row=0, first_frame=0, end_frame=0)


class EncoderPrefetch:
    """Keeps every stream's codes just ahead of the steps that use them."""

    def __init__(self, frame_samples: int, chunk_frames: int, *, ahead: bool = True) -> None:
        """Without `ahead` rounds may differ in length: a chunk holds what its round uses."""
        self._frame_samples = frame_samples
        self._chunk_frames = chunk_frames
        self._ahead = ahead
        self._chunk_index = 0
        self._previous_rows = 0  # frames in the chunk before
        self._encoded: dict[int, _Encoded] = {}  # by slot

    def prepare(self, planned: Round) -> tuple[Chunk, RoundInput]:
        """The chunk to encode for a round, and its steps over (previous chunk, this chunk)."""
        for source, target in planned.moves:
            self._encoded[target] = self._encoded.pop(source)
        self._chunk_index += 1
        jobs: list[EncodeJob] = []
        segments = sorted(planned.segments, key=lambda segment: segment.round_step)
        places = [self._place(segment, jobs) for segment in segments]
        self._previous_rows = len(jobs) * self._chunk_frames
        inputs = _idle_inputs(planned)
        if segments:
            _fill(inputs, segments, places)
        return chunk_of(jobs, self._chunk_frames, self._frame_samples), inputs

    def _place(self, segment: Segment, jobs: list[EncodeJob]) -> "_CodePlaces":
        """Where the codes of a segment are; frames that are not encoded yet become a job."""
        before = self._encoded.pop(segment.slot, _NOTHING) if segment.first_step else _NOTHING
        now = before
        if before.end_frame < segment.end_step - 1:
            now = self._next(segment, before, row=len(jobs) * self._chunk_frames)
            jobs.append(EncodeJob(segment.slot, segment.stream, now.first_frame, now.end_frame))
        if not segment.is_last:
            self._encoded[segment.slot] = now
        return _CodePlaces(self._row_of_frame_0(before), self._row_of_frame_0(now), now.first_frame)

    def _next(self, segment: Segment, before: _Encoded, row: int) -> _Encoded:
        end_frame = segment.end_step - 1
        if self._ahead:
            end_frame = min(before.end_frame + self._chunk_frames, segment.stream.num_frames)
        return _Encoded(self._chunk_index, row, before.end_frame, end_frame)

    def _row_of_frame_0(self, encoded: _Encoded) -> int:
        is_current = encoded.chunk_index == self._chunk_index
        return encoded.row - encoded.first_frame + (self._previous_rows if is_current else 0)


def _idle_inputs(planned: Round) -> RoundInput:
    shape = planned.num_steps, planned.num_slots
    starts, prompt_tokens_P = _prompts(planned)
    inputs = RoundInput(
        positions_TS=np.zeros(shape, np.int32),
        code_rows_TS=np.zeros(shape, np.int64),
        forced_TS=np.full(shape, NO_TOKEN, np.int32),
        temperatures_TS=np.zeros(shape, np.float32),
        seeds_TS=np.zeros(shape, np.int64),
        prompts_TS=np.zeros(shape, np.int64),
        prompt_tokens_P=prompt_tokens_P,
        **_terms(planned, shape),
    )
    for segment, start in zip(planned.segments, starts, strict=True):
        if start:
            inputs.prompts_TS[_span(segment)] = start
    for hold in planned.holds:
        span = slice(hold.round_step, None), hold.slot
        inputs.positions_TS[span], inputs.forced_TS[span] = hold.next_step, HOLD
    return inputs


def _terms(planned: Round, shape: tuple[int, int]) -> dict[str, Any]:
    """The tries of all streams, each once, and which of them a slot uses at a step."""
    tries = {id(one.stream.term_edges_E3): one.stream.term_edges_E3 for one in planned.segments}
    tries.pop(id(None), None)
    if not tries:
        return {}
    number_of = {key: number for number, key in enumerate(tries, start=1)}
    terms_TS = np.zeros(shape, np.int64)
    for segment in planned.segments:
        terms_TS[_span(segment)] = number_of.get(id(segment.stream.term_edges_E3), 0)
    return {"terms_TS": terms_TS, "term_edges": tuple(tries.values())}


def _prompts(planned: Round) -> tuple[list[int], np.ndarray]:
    """Where each segment's prompt begins, and the tokens of all prompts.

    A stream outputs at most one token per step, so a prompt is cut to the steps it can reach.
    """
    prompts = ((one.stream.prompt_tokens, one.end_step) for one in planned.segments)
    return join_prompts([prompt and prompt[:end_step] for prompt, end_step in prompts])


def _fill(inputs: RoundInput, segments: Sequence[Segment], places: Sequence[_CodePlaces]) -> None:
    """Write the steps of all segments at once: C cells of the round's tables, one per step."""
    first_G, round_step_G, num_G, slot_G = np.array(
        [(one.first_step, one.round_step, one.num_steps, one.slot) for one in segments]
    ).T
    older_G, newer_G, first_newer_G = np.array(places).T
    segment_C = np.repeat(np.arange(len(segments)), num_G)
    offset_C = np.arange(len(segment_C)) - np.repeat(np.cumsum(num_G) - num_G, num_G)
    step_C = first_G[segment_C] + offset_C
    cells = round_step_G[segment_C] + offset_C, slot_G[segment_C]
    inputs.positions_TS[cells] = step_C
    frame_C = step_C - 1
    is_newer_C = frame_C >= first_newer_G[segment_C]
    row_C = frame_C + np.where(is_newer_C, newer_G[segment_C], older_G[segment_C])
    inputs.code_rows_TS[cells] = np.where(frame_C >= 0, row_C, 0)
    for segment in segments:
        _fill_choices(inputs, segment)


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
