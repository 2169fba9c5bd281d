"""CUDA streams, events, graphs and copies of one device.

Three CUDA streams run beside each other: one for the steps, one for the codec (its encoder ahead of
the steps, or its decoder behind them), one for copies to the host. On a CPU there are none, and
everything is done when a call returns.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

MAX_SLOTS_PER_MOVE = 4

Output = TypeVar("Output")
Upload = Callable[[np.ndarray], Tensor]


@dataclass(frozen=True, slots=True)  # no tuple: one kind of key never equals the other
class GraphKey:
    """Steps with the same key share one CUDA graph."""

    num_slots: int
    is_greedy: bool  # no slot has a prompt or samples its tokens


@dataclass(frozen=True, slots=True)
class EncoderKey:
    """Calls of the encoder with the same key share one CUDA graph."""

    num_rows: int
    num_frames: int


class SourceShape(NamedTuple):
    """How many sources a step reads, and how many rows it has room for at each."""

    num_sources: int
    rows_per_source: int


@dataclass(frozen=True, slots=True)
class SpeechKey:
    """Steps of text to speech with the same key share one CUDA graph."""

    is_audible: bool  # the depth transformer runs
    sources: SourceShape | None  # None: no row attends to a voice


@dataclass(frozen=True, slots=True)
class DecoderKey:
    """Calls of the decoder with the same key share one CUDA graph."""

    num_rows: int
    num_frames: int


StepKey = GraphKey | SpeechKey
CodecKey = EncoderKey | DecoderKey


@dataclass(frozen=True, slots=True)
class PendingCopy(Generic[Output]):
    """Copies on their way to the host, and what to make of them there."""

    tensors: tuple[Tensor, ...]
    done: torch.cuda.Event | None
    to_output: Callable[..., Output]  # takes one array per tensor

    def wait(self) -> Output:
        """Block until the copies are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.to_output(*(tensor.numpy() for tensor in self.tensors))


class CudaRuntime:
    """CUDA streams, events and graphs of one device; on a CPU every call is plain."""

    def __init__(self, device: torch.device, use_graphs: bool) -> None:
        self.device = device
        self.is_cuda = has_streams(device)
        self._use_graphs = use_graphs and self.is_cuda
        self._graphs: dict[StepKey | CodecKey, torch.cuda.CUDAGraph] = {}
        if self.is_cuda:
            # Mimi's many small kernels must not queue behind the steps' large ones.
            self._codec_stream = torch.cuda.Stream(device, priority=-1)
            self._copy_stream = torch.cuda.Stream(device)
            # Not torch's own stream for captures, which is of the first device that used it.
            self._capture_stream = torch.cuda.Stream(device)
            # The codec's graphs run beside the steps' and must not share memory with them.
            self._step_pool, self._codec_pool = (torch.cuda.graph_pool_handle() for _ in range(2))

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Work queued inside runs on this device, not on the calling thread's current one."""
        if not self.is_cuda:
            yield
            return
        with torch.cuda.device(self.device):
            yield

    @contextmanager
    def on_codec_stream(self) -> Iterator[None]:
        """Work queued inside runs beside the steps."""
        if not self.is_cuda:
            yield
            return
        with torch.cuda.stream(self._codec_stream):
            yield

    def upload(self, values: np.ndarray) -> Tensor:
        """A copy on the device, through pinned memory."""
        tensor = torch.from_numpy(values)
        if not self.is_cuda:
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy of what is in pinned memory; on a CPU the tensor itself."""
        return tensor.to(self.device, non_blocking=True) if self.is_cuda else tensor

    def host_buffer(self, num_samples: int) -> Tensor:
        """Memory of the host for samples, which a GPU copies without waiting."""
        return torch.empty(num_samples, dtype=torch.int16, pin_memory=self.is_cuda)

    def download(
        self, tensors: Sequence[Tensor], to_output: Callable[..., Output]
    ) -> PendingCopy[Output]:
        """Copies to the host, queued; the tensors must not be written to again."""
        if not self.is_cuda:
            return PendingCopy(tuple(tensors), None, to_output)
        self._copy_stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._copy_stream):
            copies = tuple(self._pinned_copy(tensor) for tensor in tensors)
            # A blocking event lets the waiting thread sleep: audio decoders need the cores.
            done = torch.cuda.Event(blocking=True)
            done.record()
        return PendingCopy(copies, done, to_output)

    def _pinned_copy(self, tensor: Tensor) -> Tensor:
        tensor.record_stream(self._copy_stream)
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return copy.copy_(tensor, non_blocking=True)

    def record_event(self) -> torch.cuda.Event | None:
        """An event that is done when everything queued so far on the current stream is."""
        return torch.cuda.current_stream(self.device).record_event() if self.is_cuda else None

    def wait_event(self, tensor: Tensor, event: torch.cuda.Event | None) -> None:
        """Let the current stream wait for an event before it uses another stream's tensor."""
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            tensor.record_stream(current)

    def moves(
        self, sources: Sequence[int], targets: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Slots to copy and where to, ordered before and after all work of steps and codec.

        A few at a time: a copy is in memory twice, and may be a hundred megabytes.
        """
        with self.on_device():
            self.sync_streams()
            for first in range(0, len(sources), MAX_SLOTS_PER_MOVE):
                few = slice(first, first + MAX_SLOTS_PER_MOVE)
                yield self.upload(np.array(sources[few])), self.upload(np.array(targets[few]))
            self.sync_streams()

    def sync_streams(self) -> None:
        """Let the steps and the codec wait for each other."""
        if self.is_cuda:
            steps = torch.cuda.current_stream(self.device)
            steps.wait_stream(self._codec_stream)
            self._codec_stream.wait_stream(steps)

    @property
    def rounds_ahead(self) -> int:
        """Rounds worth queueing before one is read: none where nothing runs beside the host."""
        return 1 if self.is_cuda else 0

    @torch.inference_mode()
    def capture(self, key: StepKey | CodecKey, call: Callable[[], None]) -> None:
        """Capture a CUDA graph of a step or of a call of the codec.

        The call is made: it may change nothing that a slot with a stream keeps.

        Without graphs the call is made once, for what is chosen or compiled at the first.
        """
        if not self.is_cuda:
            return
        self.sync_streams()
        with torch.cuda.stream(self._codec_stream):  # warm up: one-time choices and allocations
            call()
        self.sync_streams()
        if self._use_graphs:
            graph = torch.cuda.CUDAGraph()
            is_step, stream = isinstance(key, StepKey), self._capture_stream
            pool = self._step_pool if is_step else self._codec_pool
            with torch.cuda.graph(graph, pool=pool, stream=stream):
                call()
            self._graphs[key] = graph

    def forget_steps(self) -> None:
        """Drop the graphs of steps: what they read has moved to other memory."""
        if (queued := self.record_event()) is not None:
            queued.synchronize()  # a graph may not go while it runs
        self._graphs = {key: one for key, one in self._graphs.items() if isinstance(key, CodecKey)}

    def graph(self, key: StepKey | CodecKey) -> torch.cuda.CUDAGraph | None:
        """The captured graph with this key, if there is one."""
        return self._graphs.get(key)


def has_streams(device: torch.device) -> bool:
    return device.type == "cuda"
