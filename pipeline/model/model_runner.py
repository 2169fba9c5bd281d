"""A checkpoint with slots: many streams side by side, each at its own position.

Satisfies the engine's `SlotModel` by shape. A round reads everything it needs from tables laid out
before its first step and writes what is said into others, so that the host need not look at a
tensor between two steps. How a step is made is the business of the two kinds of such models, in
`stepping` and `leaping`; what the slots remember, on which queues and in which graphs, is alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from nightscribe.model.attention import Reach
from nightscribe.model.cpu_weights import pack
from nightscribe.model.cuda_runtime import Kind, Queues
from nightscribe.model.memory_budget import SMALLEST_BUCKET
from nightscribe.model.mimi_runner import SlottedMimi
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_tables import Chunk, Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Housing:
    """How slots are kept on their device."""

    encode_rows: int | None = None  # streams encoded at once; None: what the device is good at
    use_graphs: bool = True  # wherever there is CUDA
    cache_dtype: torch.dtype | None = None  # of keys and values; None: as they come


USUAL = Housing()


class RoundTables(Protocol):
    """All that the steps of a round read and write."""

    @property
    def kept(self) -> Sequence[Tensor]:
        """What is kept from round to round, with a row for each slot."""

    def rewind(self) -> None:
        """Stand before the first step of a round: a round has only so many."""


OwnTables = TypeVar("OwnTables", bound=RoundTables)


class SlottedModel(ABC, Generic[OwnTables]):
    """Mimi's and the language model's state for `num_slots` streams.

    On a CPU it packs the matrices of both, which can then only be used to hear.
    """

    _tables: OwnTables  # of each kind of model, which makes them before its steps are recorded

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        round_frames: int,
        frames_per_pass: int,
        housing: Housing,
    ) -> None:
        """A stream hears at most `round_frames` between two chunks that are encoded."""
        self.bucket_sizes = halves(num_slots)
        self._language_model = speech.language_model
        pack(self._language_model, num_slots * frames_per_pass)
        self._queues = Queues(speech.device, use_graphs=housing.use_graphs)
        self._mimi = SlottedMimi(speech, self._queues, num_slots, round_frames, housing.encode_rows)
        self._cache = self._language_model.empty_cache(
            num_slots, frames_per_pass, housing.cache_dtype
        )
        self._silent_tokens = torch.tensor(speech.silent_tokens, device=speech.device)

    @property
    def frame_samples(self) -> int:
        return self._mimi.frame_samples

    @property
    def device(self) -> torch.device:
        return self._queues.device

    @property
    def num_heads(self) -> int:
        return self._language_model.config.num_extra_heads

    def memory(self) -> Iterator[Tensor]:
        """Every tensor in which the slots remember what they have heard."""
        yield from self._mimi.memory()
        yield from self.cache_memory()

    def cache_memory(self) -> Iterator[Tensor]:
        """Of these, the language model's keys and values."""
        yield from (*self._cache.keys.tensors(), *self._cache.values.tensors())

    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a queue of its own."""
        return self._mimi.encode(chunk)

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy everything the slots `sources` remember to the slots `targets`."""
        for rows, places in self._queues.moves(sources, targets):
            self._mimi.move(rows, places)
            self._cache.put(places, self._cache.rows(rows))
            for table in self._tables.kept:
                table.index_copy_(0, places, table.index_select(0, rows))

    def _record(self) -> None:
        """Have a graph of every kind of step, where there are graphs."""
        with self._queues.on_device():
            for kind in product(self.bucket_sizes, (True, False)):
                self._tables.rewind()
                self._queues.capture(self._step, Kind(*kind))
            self._queues.join()

    @abstractmethod
    def _step(self, kind: Kind, reach: Reach) -> None:
        """Every slot hears what is next, and says what it then does."""


def halves(num_slots: int) -> list[int]:
    """All slots, half of them, a quarter, ... down to the smallest bucket."""
    sizes = [num_slots]
    while sizes[-1] >= 2 * SMALLEST_BUCKET:
        sizes.append(sizes[-1] // 2)
    return sizes
