"""A checkpoint with slots: many streams side by side, each at its own position.

`ModelRunner` is what `step_runner` and `speculative_runner` share: the state of the slots, CUDA
streams and CUDA graphs. `MimiRunner` is the encoder's part: chunks of many streams to codes, ahead
of the steps that use them. A round reads all its input from tables that are filled before its
first step and writes its output to others, so that the host touches no tensor between two steps.

J jobs of a chunk, R rows of a call of the encoder, F frames, N samples, K codebooks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from nightscribe.engine.interface import Chunk
from nightscribe.model.attention_ranking import fastest_backend
from nightscribe.model.cpu_weights import pack
from nightscribe.model.cuda_graphs import CudaRuntime, EncoderKey, GraphKey
from nightscribe.model.encoder_groups import (
    EncoderGroup,
    GroupShapes,
    SampleStaging,
    fixed_shapes,
)
from nightscribe.model.kv_cache import KVLengths
from nightscribe.model.memory_budget import SHORT_ROWS, SMALLEST_BUCKET
from nightscribe.model.mimi import FULL_SCALE, Mimi, products_in
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.term_bias import TermTrie
from nightscribe.model.triton_support import has_triton

GPU_ENCODE_ROWS = 64
FUSED_CAPABILITY = (9, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """How a runner uses its device."""

    encode_rows: int | None = None  # streams encoded at once; None: what suits the device
    use_graphs: bool = True  # CUDA graphs, on a GPU
    cache_dtype: torch.dtype | None = None  # of keys and values; None: as they are computed
    measures_attention: bool = False  # and uses the fastest backend; else always the same one
    rounds_codec: bool = False  # on a GPU, products of Mimi's transformer to TF32
    reproducible: bool = False  # on a GPU, one shape for all that is encoded
    terms: TermTrie | None = None  # what decoding prefers
    stream_terms: float | None = None  # the bonus of terms that streams bring; None: they may not


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
        self._mimi = MimiRunner(speech, self._runtime, num_slots, chunk_frames, options)
        self._cache = self._language_model.empty_cache(
            num_slots, frames_per_pass, options.cache_dtype
        )
        if options.measures_attention:
            transformer, dtype = self._language_model.transformer, speech.language_model.dtype
            transformer.backend = fastest_backend(transformer, self._cache, frames_per_pass, dtype)
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
            self._mimi.capture_graphs()
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
        options: "RunnerOptions",
    ) -> None:
        self.mimi, self._runtime = speech.mimi, runtime
        pack(self.mimi, chunk_frames * self.mimi.config.positions_per_frame)
        self._encode_slots = slot_encoder(self.mimi)
        self._rounds = options.rounds_codec
        self._num_codebooks = speech.language_model.config.num_codebooks
        self.shapes = _group_shapes(runtime.is_cuda, num_slots, chunk_frames, options)
        self._idle_slot = num_slots  # whose state is overwritten by what nobody needs
        self.state = self.mimi.initial_state(num_slots + 1, chunk_frames)
        self._staging = SampleStaging(
            runtime,
            self.shapes.rows[-1] * chunk_frames * self.frame_samples,
            num_buffers=2 * (num_slots // self.shapes.rows[-1] + 3) if runtime.is_cuda else 1,
        )
        self._calls = {key: EncoderCall.empty(key, self.mimi) for key in self.shapes.all}

    @property
    def frame_samples(self) -> int:
        return self.mimi.config.frame_samples

    def state_tensors(self) -> Iterator[Tensor]:
        """Every tensor in which the slots keep state."""
        cache = self.state.cache
        yield from (self.state.pasts_BF, *cache.keys.tensors(), *cache.values.tensors())

    def capture_graphs(self) -> None:
        """Make every call of the list once, and capture it where graphs are used."""
        for key, call in self._calls.items():
            call.fill_idle(self._idle_slot)
            self._runtime.capture(key, partial(self._run_call, call))

    @torch.inference_mode()
    def encode(self, chunk: Chunk) -> Codes:
        """Encode every job of a chunk, on a CUDA stream of its own."""
        num_jobs = len(chunk.samples)
        # One row more, for the rows of groups that have no job.
        shape_JFK = num_jobs + 1, chunk.num_frames, self._num_codebooks
        with self._runtime.on_device(), self._runtime.on_codec_stream():
            codes_JFK = torch.zeros(shape_JFK, dtype=torch.int64, device=self._runtime.device)
            for group in self.shapes.groups(chunk):
                table_4R = self._runtime.upload(self._row_table(chunk, group))
                codes_RFK = self._encode_group(chunk, group, table_4R)
                codes_JFK[:, : codes_RFK.shape[1]].index_copy_(0, table_4R[JOBS], codes_RFK)
            return Codes(codes_JFK[:num_jobs], self._runtime.record_event())

    def _encode_group(self, chunk: Chunk, group: EncoderGroup, table_4R: Tensor) -> Tensor:
        jobs, key = group
        num_samples = key.num_frames * self.frame_samples
        samples_RN = self._staging.write(chunk, jobs, key.num_rows, num_samples)
        call = self._calls.get(key)
        if call is None:
            return self._encode_unlisted(chunk, group, samples_RN, table_4R)
        call.load(samples_RN, table_4R)
        self._staging.mark_copied()
        graph = self._runtime.graph(key)
        if graph is not None:
            graph.replay()
        else:
            self._run_call(call)
        return call.codes_RFK

    def _encode_unlisted(
        self, chunk: Chunk, group: EncoderGroup, samples_RN: Tensor, table_4R: Tensor
    ) -> Tensor:
        """A shape that is not listed: on a CPU any, on a GPU that of a live stream."""
        job = group.jobs[0]
        if group.key.num_rows == 1 and chunk.continues_J[job] and not self._runtime.is_cuda:
            state = self.state.row(int(chunk.slots_J[job]))  # in the slot's own memory
            return self.mimi.encode(samples_RN.float() / FULL_SCALE, state, table_4R[FRESH] > 0)
        copied_RN = self._runtime.to_device(samples_RN)
        self._staging.mark_copied()
        return self._codes(copied_RN, table_4R)

    def _row_table(self, chunk: Chunk, group: EncoderGroup) -> np.ndarray:
        """Per row: its job, the slot whose state it continues, where that goes, if it is fresh."""
        jobs, key = group
        slots_J, continues_J = chunk.slots_J[jobs], chunk.continues_J[jobs]
        table_4R = np.empty((4, key.num_rows), np.int64)
        table_4R[JOBS], table_4R[FRESH] = len(chunk.samples), 1
        table_4R[SOURCES] = table_4R[TARGETS] = self._idle_slot
        table_4R[JOBS, : len(jobs)], table_4R[FRESH, : len(jobs)] = jobs, chunk.fresh_J[jobs]
        table_4R[SOURCES, : len(jobs)] = slots_J
        table_4R[TARGETS, : len(jobs)] = np.where(continues_J, slots_J, self._idle_slot)
        return table_4R

    def _run_call(self, call: "EncoderCall") -> None:
        """What a graph records."""
        call.codes_RFK.copy_(self._codes(call.samples_RN, call.table_4R))

    def _codes(self, samples_RN: Tensor, table_4R: Tensor) -> Tensor:
        rows = table_4R[SOURCES], table_4R[TARGETS], table_4R[FRESH]
        if not self._rounds:
            return self._encode_slots(samples_RN, self.state, *rows)
        with products_in("high", self._runtime.device):
            return self._encode_slots(samples_RN, self.state, *rows)

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy the state of some slots to others."""
        self.state.put(targets, self.state.rows(sources))


JOBS, SOURCES, TARGETS, FRESH = range(4)  # rows of the table of an encoder call


@dataclass(frozen=True, slots=True)
class EncoderCall:
    """Input and output of one call of the encoder; a graph finds them where they are."""

    samples_RN: Tensor
    table_4R: Tensor
    codes_RFK: Tensor

    @classmethod
    def empty(cls, key: EncoderKey, mimi: Mimi) -> Self:
        config, device = mimi.config, mimi.device
        shape_RN = key.num_rows, key.num_frames * config.frame_samples
        shape_RFK = key.num_rows, key.num_frames, config.num_codebooks
        return cls(
            torch.zeros(shape_RN, dtype=torch.int16, device=device),
            torch.zeros(4, key.num_rows, dtype=torch.int64, device=device),
            torch.zeros(shape_RFK, dtype=torch.int64, device=device),
        )

    def load(self, samples_RN: Tensor, table_4R: Tensor) -> None:
        self.samples_RN.copy_(samples_RN, non_blocking=True)
        self.table_4R.copy_(table_4R)

    def fill_idle(self, idle_slot: int) -> None:
        """Rows without a job."""
        self.table_4R[SOURCES].fill_(idle_slot)
        self.table_4R[TARGETS].fill_(idle_slot)
        self.table_4R[FRESH].fill_(1)


def slot_encoder(mimi: Mimi) -> Callable[..., Tensor]:
    """Mimi's own, or on a GPU with Triton the fused one, if its parts are wide enough."""
    if mimi.device.type == "cuda" and has_triton():
        from nightscribe.model.fused_codec import FusedMimi, can_fuse  # which need Triton

        # Only where the shared memory of the compiled kernels is known to suffice.
        if can_fuse(mimi) and torch.cuda.get_device_capability(mimi.device) >= FUSED_CAPABILITY:
            return FusedMimi(mimi).encode_slots
    return mimi.encode_slots


def _group_shapes(
    is_cuda: bool, num_slots: int, chunk_frames: int, options: RunnerOptions
) -> GroupShapes:
    if not is_cuda:
        rows = options.encode_rows or 1
        if options.reproducible:  # as many rows would round otherwise than one
            return GroupShapes((rows,))
        return GroupShapes((max(rows, SHORT_ROWS),), max_cells=rows * chunk_frames)
    rows = min(options.encode_rows or GPU_ENCODE_ROWS, max(num_slots, SMALLEST_BUCKET))
    return fixed_shapes(rows, chunk_frames, reproducible=options.reproducible)
