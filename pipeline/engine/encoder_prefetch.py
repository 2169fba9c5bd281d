"""Turns a round into what the model is given: a chunk to encode ahead, and every slot's steps.

A stream hears at most a round of frames per round, so one chunk per stream and round is enough;
what is left of a chunk is heard in the next round. Hence the codes of a round lie in its own chunk
or in the one before.
"""

# T steps of a round, S slots, P tokens of prompts

from dataclasses import dataclass

import numpy as np

from nightscribe.engine.chunks import Chunk, Job, chunk_of
from nightscribe.engine.prompts import joined
from nightscribe.engine.scheduler import Round, Segment
from nightscribe.engine.step_model import Steps


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Where the newest codes of a slot's stream lie."""

    chunk_index: int
    row: int  # of the stream's first frame in this chunk, counted in frames of the chunk
    first_frame: int
    end_frame: int


_NOTHING = _Encoded(chunk_index=0, row=0, first_frame=0, end_frame=0)


class Ahead:
    """Keeps every stream's codes just ahead of the steps that hear them."""

    def __init__(self, frame_samples: int, chunk_frames: int) -> None:
        self._frame_samples = frame_samples
        self._chunk_frames = chunk_frames
        self._chunk_index = 0
        self._previous_rows = 0  # frames in the chunk before
        self._encoded: dict[int, _Encoded] = {}  # by slot

    def prepare(self, planned: Round) -> tuple[Chunk, Steps]:
        """The chunk that a round needs encoded, and its steps over (previous chunk, this chunk)."""
        for source, target in planned.moves:
            self._encoded[target] = self._encoded.pop(source)
        self._chunk_index += 1
        jobs: list[Job] = []
        steps = _idle_steps(planned)
        for segment in sorted(planned.segments, key=lambda segment: segment.round_step):
            self._lay(segment, jobs, steps)
        self._previous_rows = len(jobs) * self._chunk_frames
        return chunk_of(jobs, self._chunk_frames, self._frame_samples), steps

    def _lay(self, segment: Segment, jobs: list[Job], steps: Steps) -> None:
        before = self._encoded.pop(segment.slot, _NOTHING) if segment.first_step else _NOTHING
        now = before
        if before.end_frame < segment.end_step - 1:
            now = self._next(segment, before, row=len(jobs) * self._chunk_frames)
            jobs.append(Job(segment.slot, segment.stream, now.first_frame, now.end_frame))
        _fill(steps, segment, self._frame_rows(segment, before, now))
        if not segment.is_last:
            self._encoded[segment.slot] = now

    def _next(self, segment: Segment, before: _Encoded, row: int) -> _Encoded:
        end_frame = min(before.end_frame + self._chunk_frames, segment.stream.num_frames)
        return _Encoded(self._chunk_index, row, before.end_frame, end_frame)

    def _frame_rows(self, segment: Segment, before: _Encoded, now: _Encoded) -> np.ndarray:
        frames_T = np.arange(segment.first_step, segment.end_step) - 1
        rows_T = np.where(
            frames_T >= now.first_frame,
            self._row_of_frame_0(now) + frames_T,
            self._row_of_frame_0(before) + frames_T,
        )
        return np.where(frames_T >= 0, rows_T, 0)

    def _row_of_frame_0(self, encoded: _Encoded) -> int:
        is_current = encoded.chunk_index == self._chunk_index
        return encoded.row - encoded.first_frame + (self._previous_rows if is_current else 0)


def _idle_steps(planned: Round) -> Steps:
    shape = planned.num_steps, planned.num_slots
    starts, prompt_tokens_P = _prompts(planned)
    steps = Steps(
        positions_TS=np.zeros(shape, np.int32),
        frames_TS=np.zeros(shape, np.int64),
        forced_TS=np.full(shape, -1, np.int32),
        temperatures_TS=np.zeros(shape, np.float32),
        seeds_TS=np.zeros(shape, np.int64),
        prompts_TS=np.zeros(shape, np.int64),
        prompt_tokens_P=prompt_tokens_P,
    )
    for segment, start in zip(planned.segments, starts, strict=True):
        steps.prompts_TS[_span(segment)] = start
    return steps


def _prompts(planned: Round) -> tuple[list[int], np.ndarray]:
    """Where each segment's prompt begins, and all of them.

    A stream says at most a token a step: what it cannot come to is left out.
    """
    return joined([one.stream.prompt_tokens[: one.end_step] for one in planned.segments])


def _fill(steps: Steps, segment: Segment, frame_rows_T: np.ndarray) -> None:
    span, stream = _span(segment), segment.stream
    steps.positions_TS[span] = np.arange(segment.first_step, segment.end_step)
    steps.frames_TS[span] = frame_rows_T
    steps.temperatures_TS[span], steps.seeds_TS[span] = stream.temperature, stream.seed
    forced = stream.forced_tokens[segment.first_step : segment.end_step]
    steps.forced_TS[span][: len(forced)] = forced


def _span(segment: Segment) -> tuple[slice, int]:
    """Where the steps of a segment stand in a table of the round."""
    return slice(segment.round_step, segment.round_step + segment.num_steps), segment.slot
