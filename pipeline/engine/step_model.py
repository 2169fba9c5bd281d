"""What the engine asks of a model that makes a step after the other."""

# T steps of a round, S slots, H heads, P tokens of prompts

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nightscribe.engine.slot_model import SlotModel


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """One round: what every slot hears at every step.

    Position 0 forgets the slot's past and hears the model's start ids instead of codes. An idle
    slot stands at position 0 throughout, where a step is cheapest.
    """

    positions_TS: np.ndarray  # int32, of the slot's stream
    frames_TS: np.ndarray  # int64, row of the codes, counted through the given chunks in order
    forced_TS: np.ndarray  # int32, the token to say, or -1
    temperatures_TS: np.ndarray  # float32, at which the token is drawn; 0: the likeliest
    seeds_TS: np.ndarray  # int64, of the draws
    prompts_TS: np.ndarray  # int64, where in `prompt_tokens_P` the prompt of the stream begins
    prompt_tokens_P: np.ndarray  # int64, prompt after prompt, each ended by -1; the first is empty

    @property
    def num_steps(self) -> int:
        return self.positions_TS.shape[0]

    @property
    def num_slots(self) -> int:
        return self.positions_TS.shape[1]

    @property
    def is_plain(self) -> bool:
        """Every slot says the likeliest token or a forced one: no prompts, no draws."""
        return len(self.prompt_tokens_P) == 1 and not self.temperatures_TS.any()


class Answers(Protocol):
    """What a round said, on the host."""

    @property
    def tokens_TS(self) -> np.ndarray: ...  # int32

    @property
    def confidences_TS(self) -> np.ndarray: ...  # float32, probability of each token

    @property
    def heads_TSH(self) -> np.ndarray: ...  # float32


class Said(Protocol):
    """A round that may still be running."""

    def wait(self) -> Answers: ...


class StepModel(SlotModel, Protocol):
    """A model whose slots make a step after the other."""

    def run(self, steps: Steps, codes: Sequence[Any]) -> Said:
        """Run every step of a round over its first `steps.num_slots` slots."""
