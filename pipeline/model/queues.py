"""The queues of a device: one for the steps, one for the codec ahead of them, one for copies home.

On a CPU there is a single queue and everything is done when the call returns.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipeline.model.attention import Reach


class Queues:
    """CUDA streams, events and graphs of one device, or their absence."""

    def __init__(self, device: torch.device, use_graphs: bool) -> None:
        self.device = device
        self.is_cuda = device.type == "cuda"
        self._use_graphs = use_graphs and self.is_cuda
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        if self.is_cuda:
            self._codec = torch.cuda.Stream(device)
            self._home = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()

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

    def download(self, tensors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], object]:
        """Copies on the host, and the sign that they are there."""
        if not self.is_cuda:
            return tuple(tensors), None
        self._home.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._home):
            copies = tuple(self._pinned_copy(tensor) for tensor in tensors)
            return copies, self.sign()

    def _pinned_copy(self, tensor: Tensor) -> Tensor:
        tensor.record_stream(self._home)
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return copy.copy_(tensor, non_blocking=True)

    def sign(self) -> torch.cuda.Event | None:
        """Done when everything queued so far on the present queue is."""
        return torch.cuda.current_stream(self.device).record_event() if self.is_cuda else None

    def after(self, sign: object) -> None:
        """Hold the present queue until a sign."""
        if isinstance(sign, torch.cuda.Event):
            torch.cuda.current_stream(self.device).wait_event(sign)

    def wait(self, sign: object) -> None:
        """Hold the host until a sign."""
        if isinstance(sign, torch.cuda.Event):
            sign.synchronize()

    def join(self) -> None:
        """Let neither the steps nor the codec pass the other."""
        if self.is_cuda:
            steps = torch.cuda.current_stream(self.device)
            steps.wait_stream(self._codec)
            self._codec.wait_stream(steps)

    @torch.inference_mode()
    def capture(self, step: Callable[[int, Reach], None], bucket_sizes: Sequence[int]) -> None:
        """Record a graph of the step for each number of slots; call while all slots are idle."""
        for num_slots in bucket_sizes if self._use_graphs else ():
            self._graphs[num_slots] = self._captured(partial(step, num_slots, None))

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._codec):  # what is chosen or allocated once, is before
            step()
        self.join()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        return graph

    def run(self, step: Callable[[int, Reach], None], num_slots: int, reach: Reach) -> None:
        """Do a step; a graph, where there is one, knows no `reach`."""
        if num_slots in self._graphs:
            self._graphs[num_slots].replay()
        else:
            step(num_slots, None if self.is_cuda else reach)
