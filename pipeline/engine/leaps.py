"""What the engine asks of a model that hears several frames of a stream in one pass.

How far a slot comes in a pass depends on what it hears, so the model keeps count of where each
stands. The host lays a round out from the step that it knows a slot to have reached, which may be
rounds before the one where the slot is.
"""

# S slots, C columns of a slot from the known step on, W steps that it may make in a round,
# J jobs of a chunk, H heads, P tokens of prompts

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, Self

import numpy as np

from pipeline.engine.step_model import Chunk
from pipeline.engine.stream import Listening, Stream


@dataclass(frozen=True, slots=True, eq=False)
class Leaps:
    """A round: what every slot hears, wherever it stands.

    A slot without steps (`ends_S`) is idle.
    """

    starts_S: np.ndarray  # int64, the step to begin at: 0 of a new stream or none, -1 to go on
    ends_S: np.ndarray  # int64, steps of its stream
    bases_S: np.ndarray  # int64, the step that its first column is for
    farthest_S: np.ndarray  # int64, the step before which it stands at most
    frames_SC: np.ndarray  # int64, row of the codes that each column hears
    forced_SC: np.ndarray  # int64, the token to say, or -1
    temperatures_S: np.ndarray  # float32
    seeds_S: np.ndarray  # int64
    prompts_S: np.ndarray  # int64, where in `prompt_tokens_P` the stream's prompt begins
    prompt_tokens_P: np.ndarray  # int64, prompt after prompt, each ended by -1; the first is empty

    @classmethod
    def idle(cls, num_slots: int, num_columns: int, streams: Sequence[Stream]) -> Self:
        """A round of which only the prompts are laid out."""
        prompts = [(*stream.prompt_tokens, -1) for stream in streams if stream.prompt_tokens]
        shape = num_slots, num_columns
        return cls(
            starts_S=np.zeros(num_slots, np.int64),
            ends_S=np.zeros(num_slots, np.int64),
            bases_S=np.zeros(num_slots, np.int64),
            farthest_S=np.zeros(num_slots, np.int64),
            frames_SC=np.zeros(shape, np.int64),
            forced_SC=np.full(shape, -1, np.int64),
            temperatures_S=np.zeros(num_slots, np.float32),
            seeds_S=np.zeros(num_slots, np.int64),
            prompts_S=np.zeros(num_slots, np.int64),
            prompt_tokens_P=np.array([-1, *chain.from_iterable(prompts)], np.int64),
        )

    @property
    def is_plain(self) -> bool:
        """Every slot says the likeliest token or a forced one: no prompts, no draws."""
        return len(self.prompt_tokens_P) == 1 and not self.temperatures_S.any()


class Leapt(Protocol):
    """What a round said, on the host."""

    @property
    def num_steps_S(self) -> np.ndarray: ...  # that each slot made
    @property
    def tokens_SW(self) -> np.ndarray: ...
    @property
    def confidences_SW(self) -> np.ndarray: ...
    @property
    def heads_SWH(self) -> np.ndarray: ...


class Leaping(Protocol):
    """A round that may still be running."""

    def wait(self) -> Leapt: ...


class LeapModel(Protocol):
    """A model whose slots leap; `pipeline.model` satisfies it by shape."""

    frames_per_pass: int
    num_passes: int  # of a round

    @property
    def rounds_ahead(self) -> int:
        """Rounds that it gains by being given before the one that is read next."""

    @property
    def frame_samples(self) -> int: ...

    @property
    def bucket_sizes(self) -> Sequence[int]:
        """Numbers of slots a round may run over; the largest is all of them."""

    @property
    def num_heads(self) -> int: ...

    def encode(self, chunk: Chunk) -> Any:
        """Codes of shape (jobs, frames, ...) in the model's own keeping."""

    def run(self, leaps: Leaps, codes: Any) -> Leaping:
        """Run every pass of a round over its first slots.

        Rows of codes are counted through the model's own, C of each of all slots, which are those
        that the round before was given, then through the new ones.
        """

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the state of slots `sources` over that of slots `targets`, which are idle."""


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
        leaps = Leaps.idle(num_slots, self._num_columns, [one.stream for one in held])
        jobs: list[tuple[Occupant, slice]] = []
        begin = 1
        for one in held:
            self._lay_one(one, jobs, leaps)
            if one.stream.prompt_tokens:
                leaps.prompts_S[one.slot] = begin
                begin += len(one.stream.prompt_tokens) + 1
        return self._chunk(jobs), leaps

    def _lay_one(self, one: Occupant, jobs: list[tuple[Occupant, slice]], leaps: Leaps) -> None:
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

    def _rows(self, one: Occupant, jobs: list[tuple[Occupant, slice]]) -> np.ndarray:
        """Rows of the frames from the known step on, some of which may have to be encoded now."""
        columns = np.arange(one.next_step - 1, one.end_frame) - one.first_frame
        rows_C = one.slot * self._num_columns + columns
        last_step = one.next_step + one.num_ahead + self._width - 1
        if one.end_frame >= min(last_step, one.stream.num_frames):
            return rows_C
        first = one.end_frame
        one.end_frame = min(first + self._width, one.stream.num_frames)
        begin = self._first_new_row + len(jobs) * self._width
        jobs.append((one, slice(first, one.end_frame)))
        return np.concatenate((rows_C, begin + np.arange(one.end_frame - first)))

    def _chunk(self, jobs: Sequence[tuple[Occupant, slice]]) -> Chunk:
        size = self._frame_samples
        return Chunk(
            num_frames=self._width,
            frames_J=np.array([frames.stop - frames.start for _, frames in jobs], np.int64),
            pieces=[one.stream.samples[f.start * size : f.stop * size] for one, f in jobs],
            slots_J=np.array([one.slot for one, _ in jobs], np.int64),
            fresh_J=np.array([frames.start == 0 for _, frames in jobs], bool),
            kept_J=np.array([f.stop < one.stream.num_frames for one, f in jobs], bool),
        )
