"""What every slot keeps between two steps of text to speech.

Tensors stay where they are, so that a captured step finds them; `layout` says when one could not.

S slots, R rows (one per slot, two with guidance), K codebooks, D width, P frames of the longest
audio prompt.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.cuda_graphs import Upload
from nightscribe.model.kv_cache import KVCache
from nightscribe.model.tts.text_machine import TextMachine
from nightscribe.model.tts.voice_sources import VoiceSources


@dataclass(slots=True)
class SpeechState:
    """State of every slot; updated in place."""

    cache: KVCache
    machine: TextMachine
    sources: VoiceSources
    tokens_S: Tensor
    codes_SK: Tensor
    steps_S: Tensor
    moves_S: Tensor  # the slots that the next step moves on
    seeds_S: Tensor
    condition_RD: Tensor
    prompts_SPK: Tensor
    prompt_frames_S: Tensor
    upload: Upload = torch.from_numpy
    host_steps: dict[int, int] = field(default_factory=dict)  # of the slots with a text
    moving: frozenset[int] = frozenset()  # as in `moves_S`

    @property
    def num_slots(self) -> int:
        return len(self.steps_S)

    @property
    def rows_per_slot(self) -> int:
        return len(self.condition_RD) // self.num_slots

    @property
    def layout(self) -> tuple[tuple[int, ...], ...]:
        """Changes when a tensor that a step reads has moved to other memory."""
        return self.machine.layout, self.sources.layout, self.prompts_SPK.shape

    def rows_of(self, slot: int) -> list[int]:
        return list(range(slot, len(self.condition_RD), self.num_slots))

    def set_moving(self, slots: Collection[int]) -> None:
        """Choose which slots the next steps move on; the others stay as they are."""
        if self.moving == frozenset(slots):
            return
        self.moving = frozenset(slots)
        is_moving_S = np.zeros(self.num_slots, np.bool_)
        is_moving_S[list(slots)] = True
        self.moves_S.copy_(self.upload(is_moving_S))

    def count_step(self) -> None:
        """Count a step of the moving slots on the host."""
        for slot in self.moving:
            self.host_steps[slot] += 1

    def is_audible(self, audio_delay_steps: int) -> bool:
        """Whether the next step makes sound in any slot."""
        return any(self.host_steps[slot] >= audio_delay_steps for slot in self.moving)

    def kv_lengths(self) -> tuple[int, ...]:
        """How many entries of each row's ring the next step reads."""
        steps = (self.host_steps.get(slot, 0) for slot in range(self.num_slots))
        lengths_S = [min(step + 1, self.cache.capacity) for step in steps]
        return tuple(lengths_S * self.rows_per_slot)

    def free(self, slot: int) -> None:
        """Nothing of a text is left in its slot."""
        self.host_steps.pop(slot, None)
        self.moving -= {slot}
        for of_slots in (self.moves_S, self.steps_S):
            of_slots[slot].fill_(0)
        self.sources.release(self.rows_of(slot))
