"""The engine's interface to a model: the input of a round and its output.

Numpy only. `nightscribe.model` imports these types; the engine imports nothing of the model.
A call may return before the device has done the work: results are read by `PendingRound.wait`.

T steps of a round, S slots, J jobs of a chunk, H VAD heads, P tokens of all prompts,
C columns of a slot from the step on that the host knows it to have reached,
W steps that a slot may make in a speculative round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np

NO_TOKEN = -1  # no token is forced at this step; also ends every prompt
HOLD = -2  # instead of a forced token: the slot pauses at this step and keeps its state

Output_co = TypeVar("Output_co", covariant=True)


def join_prompts(prompts: Sequence[Sequence[int]]) -> tuple[list[int], np.ndarray]:
    """Where each prompt begins, and the tokens of all, each prompt followed by `NO_TOKEN`.

    Empty prompts share the empty one at index 0.
    """
    tokens, starts = [NO_TOKEN], []
    for prompt in prompts:
        starts.append(len(tokens) if prompt else 0)
        tokens += [*prompt, NO_TOKEN] if prompt else []
    return starts, np.array(tokens, np.int64)


NO_PROMPTS = join_prompts([])[1]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Audio for the encoder: at most one job per stream, padded to one number of frames.

    A job may have fewer frames than the chunk: where its stream ends, and with live streams also
    before. Its samples may be shorter than its frames; what is before and after them is silence.
    """

    num_frames: int
    frames_J: np.ndarray
    samples: Sequence[np.ndarray]  # J arrays of int16
    silent_J: np.ndarray  # samples of silence before them
    slots_J: np.ndarray  # the slot whose encoder state a job continues
    fresh_J: np.ndarray  # the stream begins here: the slot's old state must not be used
    continues_J: np.ndarray  # the stream goes on: store the state for its next chunk


class SlotModel(Protocol):
    """A model with slots: one stream per slot, each with its own state."""

    @property
    def frame_samples(self) -> int: ...

    @property
    def bucket_sizes(self) -> Sequence[int]:
        """Numbers of slots a round may run over; the largest is all of them."""

    @property
    def num_vad_heads(self) -> int: ...

    def encode(self, chunk: Chunk) -> Any:
        """Codes of shape (jobs, frames, ...), in a form of the model's own."""

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the state of slots `sources` over that of slots `targets`, which are idle."""


class PendingRound(Protocol[Output_co]):
    """A round that may still be running on the device."""

    def wait(self) -> Output_co:
        """Block until the round is done; returns its output on the host."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundInput:
    """One round: the input of every slot at every step.

    Position 0 resets the slot and takes the model's start ids instead of codes. An idle slot stays
    at position 0 throughout, where a step is cheapest. A slot on `HOLD` is at the position of its
    next step, whose entry in the KV cache may be overwritten.
    """

    positions_TS: np.ndarray  # int32, in the slot's stream
    code_rows_TS: np.ndarray  # int64, row of the codes, counted through the given chunks in order
    forced_TS: np.ndarray  # int32, a forced token, NO_TOKEN or HOLD
    temperatures_TS: np.ndarray  # float32, of sampling; 0 takes the most likely token
    seeds_TS: np.ndarray  # int64, of sampling
    prompts_TS: np.ndarray  # int64, where in `prompt_tokens_P` the prompt of the stream begins
    prompt_tokens_P: np.ndarray  # int64, as `join_prompts` lays them out
    # Which of `term_edges` the stream prefers, counted from 1, or 0; None: no stream has terms.
    terms_TS: np.ndarray | None = None
    term_edges: tuple[np.ndarray, ...] = ()

    @property
    def num_steps(self) -> int:
        return self.positions_TS.shape[0]

    @property
    def num_slots(self) -> int:
        return self.positions_TS.shape[1]

    @property
    def is_greedy(self) -> bool:
        """Every slot takes its most likely token or a forced one: no prompts, no sampling."""
        return len(self.prompt_tokens_P) == 1 and not self.temperatures_TS.any()


class RoundOutput(NamedTuple):
    """The output of a round, on the host."""

    tokens_TS: np.ndarray  # int32
    confidences_TS: np.ndarray  # float32, probability of each token
    vad_TSH: np.ndarray  # float32


class StepModel(SlotModel, Protocol):
    """A model that makes one step per slot at a time."""

    def run(self, inputs: RoundInput, codes: Sequence[Any]) -> PendingRound[RoundOutput]:
        """Run every step of a round over the first `inputs.num_slots` slots."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeculativeInput:
    """One speculative round: the input of every slot, wherever the slot is.

    How many draft tokens a pass accepts depends on the audio, so only the device knows where each
    slot is. The host lays a round out from the last step it knows a slot to have reached, which may
    be some rounds back. A slot whose `ends_S` is 0 is idle.
    """

    starts_S: np.ndarray  # int64, the step to begin at: 0 for a new stream or none, -1 to go on
    ends_S: np.ndarray  # int64, steps of its stream
    bases_S: np.ndarray  # int64, the step of its first column
    max_positions_S: np.ndarray  # int64, an upper bound of the position it is at
    code_rows_SC: np.ndarray  # int64, row of the codes for each column
    forced_SC: np.ndarray  # int64, a forced token, or NO_TOKEN
    temperatures_S: np.ndarray  # float32
    seeds_S: np.ndarray  # int64
    prompts_S: np.ndarray  # int64, where in `prompt_tokens_P` the stream's prompt begins
    prompt_tokens_P: np.ndarray  # int64, as `join_prompts` lays them out

    @classmethod
    def idle(
        cls, num_slots: int, num_columns: int, prompt_tokens_P: np.ndarray = NO_PROMPTS
    ) -> Self:
        """A round in which every slot is idle."""
        shape = num_slots, num_columns
        return cls(
            starts_S=np.zeros(num_slots, np.int64),
            ends_S=np.zeros(num_slots, np.int64),
            bases_S=np.zeros(num_slots, np.int64),
            max_positions_S=np.zeros(num_slots, np.int64),
            code_rows_SC=np.zeros(shape, np.int64),
            forced_SC=np.full(shape, NO_TOKEN, np.int64),
            temperatures_S=np.zeros(num_slots, np.float32),
            seeds_S=np.zeros(num_slots, np.int64),
            prompts_S=np.zeros(num_slots, np.int64),
            prompt_tokens_P=prompt_tokens_P,
        )

    @property
    def num_slots(self) -> int:
        return len(self.ends_S)

    @property
    def is_greedy(self) -> bool:
        """Every slot takes its most likely token or a forced one: no prompts, no sampling."""
        return len(self.prompt_tokens_P) == 1 and not self.temperatures_S.any()


class SpeculativeOutput(NamedTuple):
    """The output of a speculative round, on the host; only a slot's first `num_steps_S` count."""

    num_steps_S: np.ndarray  # steps that each slot made
    tokens_SW: np.ndarray
    confidences_SW: np.ndarray
    vad_SWH: np.ndarray


class SpeculativeModel(SlotModel, Protocol):
    """A model that runs several frames of a stream in one pass, on draft tokens."""

    frames_per_pass: int
    num_passes: int  # of a round

    @property
    def rounds_ahead(self) -> int:
        """Rounds worth queueing before the oldest one is read."""

    def run(self, inputs: SpeculativeInput, codes: Any) -> PendingRound[SpeculativeOutput]:
        """Run every pass of a round over its first slots.

        Code rows count first through the codes the model still holds, C for each of all slots, as
        the previous round laid them out, and then through the new ones.
        """
