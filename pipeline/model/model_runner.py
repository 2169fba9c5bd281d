"""A checkpoint with slots: many streams side by side, each at its own position.

`ModelRunner` is what `step_runner` and `speculative_runner` share: the state of the slots, CUDA
streams and CUDA graphs. `MimiRunner` is the encoder's part: chunks of many streams to codes, ahead
of the steps that use them. A round reads all its input from tables that are filled before its
first step and writes its output to others, so that the host touches no tensor between two steps.

J jobs of a chunk, F frames, N samples, K codebooks.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from nightscribe.engine.interface import Chunk
from nightscribe.model.cpu_weights import pack
from nightscribe.model.cuda_runtime import CudaRuntime, GraphKey
from nightscribe.model.kv_cache import KVLengths
from nightscribe.model.memory_budget import SMALLEST_BUCKET
from nightscribe.model.speech_to_text import FULL_SCALE, SpeechToText

GPU_ENCODE_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """How a runner uses its device."""

    encode_rows: int | None = None  # streams encoded at once; None: what suits the device
    use_graphs: bool = True  # CUDA graphs, on a GPU
    cache_dtype: torch.dtype | None = None  # of keys and values; None: as they are computed


DEFAULT_OPTIONS = RunnerOptions()


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes of a chunk, and the event after which they may be read."""

    codes_JFK: Tensor
    done: torch.cuda.Event | None


class RoundTables(Protocol):
    """The tensors that the steps of a round read and write."""

    @property
    def slot_state(self) -> Sequence[Tensor]:
        """Tensors that outlive a round, with a row for each slot."""

    def rewind(self) -> None:
        """Go back to before the first step of a round."""


Tables = TypeVar("Tables", bound=RoundTables)


class ModelRunner(ABC, Generic[Tables]):
    """State of Mimi and of the language model for `num_slots` streams.

    On a CPU it packs the weights of both, which can then be used for inference only.
    """

    _tables: Tables  # set by each kind of runner before its steps are captured

    def __init__(
        self,
        speech: SpeechToText,
        num_slots: int,
        chunk_frames: int,
        frames_per_pass: int,
        options: RunnerOptions,
    ) -> None:
        """A chunk has at most `chunk_frames` frames of each stream."""
        self.bucket_sizes = bucket_sizes(num_slots)
        self._language_model = speech.language_model
        pack(self._language_model, num_slots * frames_per_pass)
        self._runtime = CudaRuntime(speech.device, use_graphs=options.use_graphs)
        self._mimi = MimiRunner(speech, self._runtime, num_slots, chunk_frames, options.encode_rows)
        self._cache = self._language_model.empty_cache(
            num_slots, frames_per_pass, options.cache_dtype
        )
        self._padding_tokens = torch.tensor(speech.padding_tokens, device=speech.device)

    @property
    def frame_samples(self) -> int:
        return self._mimi.frame_samples

    @property
    def device(self) -> torch.device:
        return self._runtime.device

    @property
    def num_vad_heads(self) -> int:
        return self._language_model.config.num_vad_heads

    def state_tensors(self) -> Iterator[Tensor]:
        """Every tensor in which the slots keep state."""
        yield from self._mimi.state_tensors()
        yield from self.cache_tensors()

    def cache_tensors(self) -> Iterator[Tensor]:
        """Of these, the language model's KV cache."""
        yield from (*self._cache.keys.tensors(), *self._cache.values.tensors())

    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a CUDA stream of its own."""
        return self._mimi.encode(chunk)

    @torch.inference_mode()
    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy the whole state of the slots `sources` to the slots `targets`."""
        for rows, places in self._runtime.moves(sources, targets):
            self._mimi.move(rows, places)
            self._cache.put(places, self._cache.rows(rows))
            for table in self._tables.slot_state:
                table.index_copy_(0, places, table.index_select(0, rows))

    def _capture_graphs(self) -> None:
        """Capture a CUDA graph for every key, where graphs are used."""
        with self._runtime.on_device():
            for num_slots, is_greedy in product(self.bucket_sizes, (True, False)):
                key = GraphKey(num_slots, is_greedy)
                self._tables.rewind()
                self._runtime.capture(key, partial(self._step, key, None))
            self._runtime.sync_streams()

    def _replay_or_step(self, key: GraphKey, kv_lengths: KVLengths) -> None:
        """Make a step; on a GPU lengths change from step to step and are not used."""
        graph = self._runtime.graph(key)
        if graph is not None:
            graph.replay()
        else:
            self._step(key, None if self._runtime.is_cuda else kv_lengths)

    @abstractmethod
    def _step(self, key: GraphKey, kv_lengths: KVLengths) -> None:
        """Run the model over the next input of every slot."""


def bucket_sizes(num_slots: int) -> list[int]:
    """All slots, half of them, a quarter, ... down to the smallest bucket."""
    sizes = [num_slots]
    while sizes[-1] >= 2 * SMALLEST_BUCKET:
        sizes.append(sizes[-1] // 2)
    return sizes


class MimiRunner:
    """Mimi's state for `num_slots` streams. On a CPU it packs Mimi's weights."""

    def __init__(
        self,
        speech: SpeechToText,
        runtime: CudaRuntime,
        num_slots: int,
        chunk_frames: int,
        encode_rows: int | None,
    ) -> None:
        """`encode_rows` streams are encoded at once."""
        self.mimi, self._runtime = speech.mimi, runtime
        pack(self.mimi, chunk_frames * self.mimi.config.positions_per_frame)
        self._num_codebooks = speech.language_model.config.num_codebooks
        self._encode_rows = encode_rows or (GPU_ENCODE_ROWS if runtime.is_cuda else 1)
        self.state = self.mimi.initial_state(num_slots, chunk_frames)

    @property
    def frame_samples(self) -> int:
        return self.mimi.config.frame_samples

    def state_tensors(self) -> Iterator[Tensor]:
        """Every tensor in which the slots keep state."""
        cache = self.state.cache
        yield from (*self.state.seanet_pasts, self.state.downsample_past_BDP)
        yield from (*cache.keys.tensors(), *cache.values.tensors())

    @torch.inference_mode()
    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a CUDA stream of its own."""
        shape_JFK = len(chunk.samples), chunk.num_frames, self._num_codebooks
        with self._runtime.on_device(), self._runtime.on_encoder_stream():
            codes_JFK = torch.zeros(shape_JFK, dtype=torch.int64, device=self._runtime.device)
            for jobs in self._groups(chunk):
                self._encode_group(chunk, jobs, codes_JFK)
            return Codes(codes_JFK, self._runtime.record_event())

    def _groups(self, chunk: Chunk) -> Iterator[np.ndarray]:
        """Jobs that are encoded at once: of similar length, so that little is padding.

        The last chunk of a stream comes before the first of its successor, which overwrites the
        state of their slot. A stream that goes on is not padded, which would change its state.
        """
        order_J = np.lexsort((-chunk.frames_J, chunk.continues_J))
        longest_end = chunk.frames_J[~chunk.continues_J].max(initial=0)
        frames_J = np.where(chunk.continues_J, chunk.frames_J, longest_end)[order_J]
        ends = np.flatnonzero(np.diff(frames_J) < 0) + 1
        for jobs in np.split(order_J, ends):
            for first in range(0, len(jobs), self._encode_rows):
                yield jobs[first : first + self._encode_rows]

    def _encode_group(self, chunk: Chunk, jobs: np.ndarray, codes_JFK: Tensor) -> None:
        num_frames = chunk.frames_J[jobs].max()
        samples_JN = self._padded([chunk.samples[job] for job in jobs], num_frames)
        slots_J, continues_J = chunk.slots_J[jobs], chunk.continues_J[jobs]
        state = self.state.rows(self._runtime.upload(slots_J))
        fresh_J = self._runtime.upload(chunk.fresh_J[jobs])
        new_codes_JFK = self.mimi.encode(samples_JN, state, fresh_J)
        codes_JFK[:, :num_frames].index_copy_(0, self._runtime.upload(jobs), new_codes_JFK)
        if continues_J.any():
            rows = self._runtime.upload(np.flatnonzero(continues_J))
            self.state.put(self._runtime.upload(slots_J[continues_J]), state.rows(rows))

    def _padded(self, samples: Sequence[np.ndarray], num_frames: int) -> Tensor:
        samples_JN = np.zeros((len(samples), num_frames * self.frame_samples), np.int16)
        for samples_N, own_samples in zip(samples_JN, samples, strict=True):
            samples_N[: len(own_samples)] = own_samples
        return self._runtime.upload(samples_JN).float() / FULL_SCALE

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy the state of some slots to others."""
        self.state.put(targets, self.state.rows(sources))
