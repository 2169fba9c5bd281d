"""What the engine asks of a model that hears several frames of a stream in one pass.

How far a slot comes in a pass depends on what it hears, so the model keeps count of where each
stands. The host lays a round out from the step that it knows a slot to have reached, which may be
rounds before the one where the slot is.
"""

# S slots, C columns of a slot from the known step on, W steps that it may make in a round,
# H heads, P tokens of prompts

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from nightscribe.engine.prompts import NO_PROMPTS
from nightscribe.engine.slot_model import SlotModel


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
    def idle(
        cls, num_slots: int, num_columns: int, prompt_tokens_P: np.ndarray = NO_PROMPTS
    ) -> Self:
        """A round in which no slot hears anything."""
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
            prompt_tokens_P=prompt_tokens_P,
        )

    @property
    def num_slots(self) -> int:
        return len(self.ends_S)

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


class LeapModel(SlotModel, Protocol):
    """A model whose slots leap."""

    frames_per_pass: int
    num_passes: int  # of a round

    @property
    def rounds_ahead(self) -> int:
        """Rounds that it gains by being given before the one that is read next."""

    def run(self, leaps: Leaps, codes: Any) -> Leaping:
        """Run every pass of a round over its first slots.

        Rows of codes are counted through the model's own, C of each of all slots, which are those
        that the round before was given, then through the new ones.
        """
