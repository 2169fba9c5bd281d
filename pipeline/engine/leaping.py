"""Continuous batching over a model that hears several frames of a stream in one pass.

How far a slot comes in a pass depends on what it hears, so the host learns it at the end of a
round: only then is the next one laid out, and a slot whose stream ends inside a round waits for
its successor until then. What is said is what `Engine` makes its model say.
"""

# S slots, W steps that a slot may make in a round, J jobs of a chunk, H heads

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from pipeline.engine.engine import Tally
from pipeline.engine.slots import Listed, Source
from pipeline.engine.step_model import Chunk
from pipeline.engine.stream import Heard, Listening, Stream


@dataclass(frozen=True, slots=True, eq=False)
class Leaps:
    """A round: where every slot stands, and what it hears from there on.

    A slot at position 0 begins a stream; one that has no step left is idle.
    """

    positions_S: np.ndarray  # int64, of the stream's next step
    left_S: np.ndarray  # int64, steps to the stream's end
    frames_SW: np.ndarray  # int64, row of the codes of each of its next steps
    forced_SW: np.ndarray  # int64, the token to say, or -1
    temperatures_S: np.ndarray  # float32
    seeds_S: np.ndarray  # int64
    prompts_S: np.ndarray  # int64, where in `prompt_tokens_P` the stream's prompt begins
    prompt_tokens_P: np.ndarray  # int64, prompt after prompt, each ended by -1; the first is empty


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


class LeapModel(Protocol):
    """A model whose slots leap; `pipeline.model` satisfies it by shape."""

    num_slots: int
    frames_per_pass: int
    num_passes: int  # of a round

    @property
    def frame_samples(self) -> int: ...

    @property
    def num_heads(self) -> int: ...

    def encode(self, chunk: Chunk) -> Any:
        """Codes of shape (jobs, frames, ...) in the model's own keeping."""

    def run(self, leaps: Leaps, codes: Any) -> Leapt:
        """Run every pass of a round.

        Rows of codes are counted through the model's own, 2 W of each slot, which are those that
        the round before was given, then through the new ones.
        """


@dataclass(slots=True)
class _Occupant:
    stream: Stream
    listening: Listening
    next_step: int = 0
    first_frame: int = -1  # in the slot's first row of codes
    end_frame: int = 0  # of those that are encoded

    @property
    def num_left(self) -> int:
        return self.stream.num_steps - self.next_step


class LeapingEngine:
    """As `Engine`, over a model that leaps."""

    def __init__(self, model: LeapModel) -> None:
        self._model = model
        self._width = model.num_passes * model.frames_per_pass
        self._occupants: list[_Occupant | None] = [None] * model.num_slots
        self.tally = Tally(num_slots=model.num_slots)

    def hear(self, streams: Iterable[Stream]) -> Iterator[Heard]:
        """Yield each stream once it has been heard to its end; pulled when a slot is free."""
        return self.hear_source(Listed(streams))

    def hear_source(self, source: Source) -> Iterator[Heard]:
        """As `hear`, from a source that may have nothing to give for a while."""
        while self._admit(source):
            began_s = time.perf_counter()
            yield from self._round()
            self.tally.busy_s += time.perf_counter() - began_s
        self.tally.slots_busy = 0.0

    def _admit(self, source: Source) -> bool:
        """Fill the free slots; whether any slot holds a stream then."""
        for slot, occupant in enumerate(self._occupants):
            if occupant is None:
                stream = source.take(wait=not any(self._occupants))
                if stream is None:
                    break
                self._occupants[slot] = self._seated(stream)
        return any(self._occupants)

    def _seated(self, stream: Stream) -> _Occupant:
        return _Occupant(stream, Listening(stream, self._model.num_heads))

    def _round(self) -> Iterator[Heard]:
        held = [(slot, one) for slot, one in enumerate(self._occupants) if one is not None]
        chunk, leaps = self._laid(held)
        leapt = self._model.run(leaps, self._model.encode(chunk))
        self._count(len(held), int(leapt.num_steps_S.sum()))
        for slot, occupant in held:
            _write(occupant, slot, leapt)
            if not occupant.num_left:
                self._occupants[slot] = None
                yield occupant.listening.heard()

    def _laid(self, held: Sequence[tuple[int, _Occupant]]) -> tuple[Chunk, Leaps]:
        leaps = self._idle([occupant.stream for _, occupant in held])
        begin = 1
        jobs: list[tuple[int, _Occupant, slice]] = []
        for slot, occupant in held:
            span = slice(occupant.next_step, occupant.next_step + self._width)
            rows_W = self._known_rows(slot, occupant)
            if occupant.end_frame < min(span.stop - 1, occupant.stream.num_frames):
                rows_W = self._extended(rows_W, slot, occupant, jobs)
            leaps.frames_SW[slot, : len(rows_W)] = rows_W
            occupant.first_frame = occupant.next_step - 1
            leaps.positions_S[slot], leaps.left_S[slot] = occupant.next_step, occupant.num_left
            leaps.temperatures_S[slot] = occupant.stream.temperature
            leaps.seeds_S[slot] = occupant.stream.seed
            forced = occupant.stream.forced_tokens[span]
            leaps.forced_SW[slot, : len(forced)] = forced
            if occupant.stream.prompt_tokens:
                leaps.prompts_S[slot] = begin
                begin += len(occupant.stream.prompt_tokens) + 1
        return self._chunk(jobs), leaps

    def _idle(self, streams: Sequence[Stream]) -> Leaps:
        """A round of which only the prompts are laid out."""
        prompts = [(*stream.prompt_tokens, -1) for stream in streams if stream.prompt_tokens]
        shape = self._model.num_slots, 2 * self._width
        return Leaps(
            positions_S=np.zeros(shape[0], np.int64),
            left_S=np.zeros(shape[0], np.int64),
            frames_SW=np.zeros(shape, np.int64),
            forced_SW=np.full(shape, -1, np.int64),
            temperatures_S=np.zeros(shape[0], np.float32),
            seeds_S=np.zeros(shape[0], np.int64),
            prompts_S=np.zeros(shape[0], np.int64),
            prompt_tokens_P=np.array([-1, *chain.from_iterable(prompts)], np.int64),
        )

    def _known_rows(self, slot: int, occupant: _Occupant) -> np.ndarray:
        """Rows, in the model's own codes, of the frames that are encoded, from the next on."""
        columns = np.arange(
            occupant.next_step - 1 - occupant.first_frame, occupant.end_frame - occupant.first_frame
        )
        return slot * 2 * self._width + columns

    def _extended(
        self, rows_W: np.ndarray, slot: int, occupant: _Occupant, jobs: list
    ) -> np.ndarray:
        """Have the next frames encoded, as many as a round may hear, and name their rows too."""
        first = occupant.end_frame
        occupant.end_frame = min(first + self._width, occupant.stream.num_frames)
        begin = (2 * self._model.num_slots + len(jobs)) * self._width
        jobs.append((slot, occupant, slice(first, occupant.end_frame)))
        return np.concatenate((rows_W, begin + np.arange(occupant.end_frame - first)))

    def _chunk(self, jobs: list[tuple[int, _Occupant, slice]]) -> Chunk:
        size = self._model.frame_samples
        return Chunk(
            num_frames=self._width,
            frames_J=np.array([frames.stop - frames.start for _, _, frames in jobs], np.int64),
            pieces=[
                one.stream.samples[frames.start * size : frames.stop * size]
                for _, one, frames in jobs
            ],
            slots_J=np.array([slot for slot, _, _ in jobs], np.int64),
            fresh_J=np.array([frames.start == 0 for _, _, frames in jobs], bool),
            kept_J=np.array([f.stop < one.stream.num_frames for _, one, f in jobs], bool),
        )

    def _count(self, num_held: int, num_steps: int) -> None:
        self.tally.num_rounds += 1
        self.tally.num_steps += self._width
        self.tally.num_slot_steps += self._width * self._model.num_slots
        self.tally.num_live_steps += num_steps
        self.tally.slots_busy = num_held


def _write(occupant: _Occupant, slot: int, leapt: Leapt) -> None:
    num_steps = int(leapt.num_steps_S[slot])
    occupant.listening.write(
        slice(occupant.next_step, occupant.next_step + num_steps),
        leapt.tokens_SW[slot, :num_steps],
        leapt.confidences_SW[slot, :num_steps],
        leapt.heads_SWH[slot, :num_steps],
    )
    occupant.next_step += num_steps
