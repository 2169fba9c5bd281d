"""What every engine asks of a model: rows of state, the slots, and codes ahead of its steps.

How the steps themselves are asked for stands in `step_model` and `leap_model`. All of it may return
before the work is done: nothing is read back until a round is waited for.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from nightscribe.engine.chunks import Chunk


class SlotModel(Protocol):
    """A model with slots; `nightscribe.model` satisfies it by shape."""

    @property
    def frame_samples(self) -> int: ...

    @property
    def bucket_sizes(self) -> Sequence[int]:
        """Numbers of slots a round may run over; the largest is all of them."""

    @property
    def num_heads(self) -> int: ...

    def encode(self, chunk: Chunk) -> Any:
        """Codes of shape (jobs, frames, ...) in the model's own keeping."""

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the state of slots `sources` over that of slots `targets`, which are idle."""
