"""The queues of a device: one for the steps, one for the codec ahead of them, one for copies home.

On a CPU there is a single queue and everything is done when the call returns.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from nightscribe.model.attention import Reach

MOVED_AT_ONCE = 4  # slots

Told = TypeVar("Told")


class Kind(NamedTuple):
    """Steps of one kind are recorded once."""

    num_slots: int
    is_plain: bool  # no slot has a prompt or draws its tokens


@dataclass(frozen=True, slots=True)
class Homeward(Generic[Told]):
    """Copies on their way to the host, and what they tell there."""

    tensors: tuple[Tensor, ...]
    done: torch.cuda.Event | None
    told: Callable[..., Told]  # of as many arrays

    def wait(self) -> Told:
        """Hold the host until they are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.told(*(tensor.numpy() for tensor in self.tensors))


class Queues:
    """CUDA streams, events and graphs of one device, or their absence."""

    def __init__(self, device: torch.device, use_graphs: bool) -> None:
        self.device = device
        self.is_cuda = has_queues(device)
        self._use_graphs = use_graphs and self.is_cuda
        self._graphs: dict[Kind, torch.cuda.CUDAGraph] = {}
        if self.is_cuda:
            self._codec = torch.cuda.Stream(device)
            self._home = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """What is queued inside runs on this device, whichever the calling thread has in mind."""
        if not self.is_cuda:
            yield
            return
        with torch.cuda.device(self.device):
            yield

    @contextmanager
    def codec(self) -> Iterator[None]:
        """What is queued inside runs beside the steps."""
        if not self.is_cuda:
            yield
            return
        with torch.cuda.stream(self._codec):
            yield

    def upload(self, values: np.ndarray) -> Tensor:
        """A copy on the device, through pinned memory."""
        tensor = torch.from_numpy(values)
        if not self.is_cuda:
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def download(self, tensors: Sequence[Tensor], told: Callable[..., Told]) -> Homeward[Told]:
        """Copies on the host, once they are there; the tensors must not be written to again."""
        if not self.is_cuda:
            return Homeward(tuple(tensors), None, told)
        self._home.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._home):
            copies = tuple(self._pinned_copy(tensor) for tensor in tensors)
            # The host sleeps until then: decoders need its cores.
            done = torch.cuda.Event(blocking=True)
            done.record()
        return Homeward(copies, done, told)

    def _pinned_copy(self, tensor: Tensor) -> Tensor:
        tensor.record_stream(self._home)
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return copy.copy_(tensor, non_blocking=True)

    def sign(self) -> torch.cuda.Event | None:
        """Done when everything queued so far on the present queue is."""
        return torch.cuda.current_stream(self.device).record_event() if self.is_cuda else None

    def receive(self, tensor: Tensor, sign: torch.cuda.Event | None) -> None:
        """Hold the present queue until a sign, then let it read what another has made."""
        if sign is not None:
            present = torch.cuda.current_stream(self.device)
            present.wait_event(sign)
            tensor.record_stream(present)

    def moves(
        self, sources: Sequence[int], targets: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Slots to copy and where to; neither the steps nor the codec pass what is done to them.

        A few at a time: what is copied stands in memory twice, and may be a hundred megabytes.
        """
        with self.on_device():
            self.join()
            for first in range(0, len(sources), MOVED_AT_ONCE):
                few = slice(first, first + MOVED_AT_ONCE)
                yield self.upload(np.array(sources[few])), self.upload(np.array(targets[few]))
            self.join()

    def join(self) -> None:
        """Let neither the steps nor the codec pass the other."""
        if self.is_cuda:
            steps = torch.cuda.current_stream(self.device)
            steps.wait_stream(self._codec)
            self._codec.wait_stream(steps)

    @property
    def rounds_ahead(self) -> int:
        """Rounds worth queueing before one is read: none where nothing runs beside the host."""
        return 1 if self.is_cuda else 0

    @torch.inference_mode()
    def capture(self, step: Callable[[Kind, Reach], None], kind: Kind) -> None:
        """Record a graph of one kind of step; call while all slots are idle."""
        if self._use_graphs:
            self._graphs[kind] = self._captured(partial(step, kind, None))

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        self.join()
        with torch.cuda.stream(self._codec):  # what is chosen or allocated once, is before
            step()
        self.join()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        return graph

    def run(self, step: Callable[[Kind, Reach], None], kind: Kind, reach: Reach) -> None:
        """Do a step; a graph, where there is one, knows no `reach`."""
        if kind in self._graphs:
            self._graphs[kind].replay()
        else:
            step(kind, None if self.is_cuda else reach)


def has_queues(device: torch.device) -> bool:
    return device.type == "cuda"
