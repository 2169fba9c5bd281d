"""Turns what the host knows of each stream into what the model is given: a chunk, and leaps."""

# C columns of a slot from the step on that the host knows it to have reached

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightscribe.engine.chunks import Chunk, Job, chunk_of
from nightscribe.engine.prompts import joined
from nightscribe.engine.speculative_interface import LeapModel, Leaps, Leapt
from nightscribe.engine.stream import Listening, Stream


@dataclass(slots=True, eq=False)
class Occupant:
    """A stream in a slot, as far as the host knows."""

    slot: int
    stream: Stream
    listening: Listening
    next_step: int = 0
    num_ahead: int = 0  # steps that the rounds under way may make at most
    first_frame: int = -1  # in the slot's first column
    end_frame: int = 0  # of those that are encoded

    @property
    def is_heard(self) -> bool:
        return self.next_step == self.stream.num_steps

    def write(self, slot: int, leapt: Leapt) -> None:
        """Take over what was said in the slot that it then had."""
        num_steps = int(leapt.num_steps_S[slot])
        self.listening.write(
            slice(self.next_step, self.next_step + num_steps),
            leapt.tokens_SW[slot, :num_steps],
            leapt.confidences_SW[slot, :num_steps],
            leapt.heads_SWH[slot, :num_steps],
        )
        self.next_step += num_steps


class Layout:
    """Lays rounds out, and has frames encoded just ahead of the steps that may hear them."""

    def __init__(self, model: LeapModel) -> None:
        self._frame_samples = model.frame_samples
        self._width = model.frames_per_pass * model.num_passes
        # What rounds under way may hear, what this one may, and what is encoded beyond it.
        self._num_columns = (model.rounds_ahead + 2) * self._width
        self._first_new_row = max(model.bucket_sizes) * self._num_columns

    def lay(self, held: Sequence[Occupant], num_slots: int) -> tuple[Chunk, Leaps]:
        """The chunk that a round needs encoded, and the round."""
        starts, prompt_tokens_P = joined([one.stream.prompt_tokens for one in held])
        leaps = Leaps.idle(num_slots, self._num_columns, prompt_tokens_P)
        jobs: list[Job] = []
        for one, start in zip(held, starts, strict=True):
            leaps.prompts_S[one.slot] = start
            self._lay_one(one, jobs, leaps)
        return chunk_of(jobs, self._width, self._frame_samples), leaps

    def _lay_one(self, one: Occupant, jobs: list[Job], leaps: Leaps) -> None:
        slot, stream = one.slot, one.stream
        leaps.starts_S[slot] = 0 if one.next_step == one.num_ahead == 0 else -1
        leaps.ends_S[slot], leaps.bases_S[slot] = stream.num_steps, one.next_step
        leaps.farthest_S[slot] = one.next_step + one.num_ahead
        leaps.temperatures_S[slot], leaps.seeds_S[slot] = stream.temperature, stream.seed
        forced = stream.forced_tokens[one.next_step : one.next_step + self._num_columns]
        leaps.forced_SC[slot, : len(forced)] = forced
        rows_C = self._rows(one, jobs)
        leaps.frames_SC[slot, : len(rows_C)] = rows_C
        one.first_frame = one.next_step - 1
        one.num_ahead += self._width

    def _rows(self, one: Occupant, jobs: list[Job]) -> np.ndarray:
        """Rows of the frames from the known step on, some of which may have to be encoded now."""
        columns = np.arange(one.next_step - 1, one.end_frame) - one.first_frame
        rows_C = one.slot * self._num_columns + columns
        last_step = one.next_step + one.num_ahead + self._width - 1
        if one.end_frame >= min(last_step, one.stream.num_frames):
            return rows_C
        first = one.end_frame
        one.end_frame = min(first + self._width, one.stream.num_frames)
        begin = self._first_new_row + len(jobs) * self._width
        jobs.append(Job(one.slot, one.stream, first, one.end_frame))
        return np.concatenate((rows_C, begin + np.arange(one.end_frame - first)))
