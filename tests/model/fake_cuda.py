"""A fake GPU on a CPU: CUDA streams that may overtake each other, and captured graphs.

Every operator runs when it is called. But each stream counts what it has waited for; using a tensor
that another stream may still write or read raises `Race`. A graph records the operators of a step
with their tensors; a replay runs these again, without the Python around them.
"""

import contextlib
import itertools
from collections import Counter
from typing import ClassVar

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nightscribe.model import cuda_graphs as queues

FORBIDDEN_IN_RECORDINGS = (
    "aten._local_scalar_dense",
    "aten.item",
    "aten.nonzero",
    "aten.is_nonzero",
    "aten.lift_fresh",  # a number of the host
)


class Race(AssertionError):
    pass


class Event:
    def __init__(self, blocking=False):
        self.known = Counter()

    def record(self):
        self.known = Counter(Stream.present.known)

    def synchronize(self):
        Stream.host |= self.known


class Stream:
    """Knows how many operators of each stream are done before its next one begins."""

    numbers = itertools.count()
    host: ClassVar[Counter]
    present: ClassVar["Stream"]

    def __init__(self, device=None, priority=0):
        self.number, self.known, self.priority = next(Stream.numbers), Counter(), priority

    def begin(self):
        self.known |= Stream.host
        self.known[self.number] += 1
        return self.number, self.known[self.number]

    def has_seen(self, moment):
        return self.known[moment[0]] >= moment[1]

    def wait_stream(self, other):
        self.known |= other.known

    def wait_event(self, event):
        self.known |= event.known

    def record_event(self):
        event = Event()
        event.known = Counter(self.known)
        return event


class Graph:
    recording = None

    def __init__(self):
        self.calls = []
        self.pool = self.stream = None

    def replay(self):
        for func, args, kwargs, said in self.calls:
            made = made_by(said, args, kwargs)
            if made or written_by(func, args, kwargs):
                with torch.inference_mode():
                    again = func(*args, **kwargs)
                    for kept, new in zip(made, made_by(again, args, kwargs), strict=True):
                        kept.copy_(new)


@contextlib.contextmanager
def graph(recorded, pool=None, stream=None):
    Graph.recording, recorded.pool, recorded.stream = recorded, pool, stream
    try:
        yield
    finally:
        Graph.recording = None


@contextlib.contextmanager
def stream(wanted):
    before, Stream.present = Stream.present, wanted
    try:
        yield
    finally:
        Stream.present = before


def storage_of(tensor):
    return tensor.untyped_storage()._cdata


def tensors_in(args):
    return [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]


def made_by(said, args, kwargs):
    """The tensors that an operator gave and that are no views of what it was given."""
    given = {storage_of(tensor) for tensor in tensors_in((args, kwargs))}
    return [tensor for tensor in tensors_in(said) if storage_of(tensor) not in given]


def written_by(func, args, kwargs):
    infos = [argument.alias_info for argument in func._schema.arguments]
    pairs = zip(infos, args, strict=False)
    targets = [arg for info, arg in pairs if info is not None and info.is_write]
    return tensors_in((targets, kwargs.get("out")))


class Watching(TorchDispatchMode):
    """Sees every operator, and keeps book of who wrote and who read which memory last."""

    def __init__(self):
        super().__init__()
        self.written, self.read, self.num_calls = {}, {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.num_calls += 1
        if Graph.recording is not None:
            if str(func).startswith(FORBIDDEN_IN_RECORDINGS):
                raise Race(f"{func} cannot be recorded")
            said = func(*args, **kwargs)
            Graph.recording.calls.append((func, args, kwargs, said))
            return said
        said = func(*args, **kwargs)
        made, targets = made_by(said, args, kwargs), written_by(func, args, kwargs)
        if made or targets:  # else it is a view
            moment = Stream.present.begin()
            for tensor in tensors_in((args, kwargs)):
                self.look(func, storage_of(tensor), moment)
            for tensor in targets:
                self.write(func, storage_of(tensor), moment)
            for tensor in made:
                self.written[storage_of(tensor)] = moment
                self.read.pop(storage_of(tensor), None)
        return said

    def look(self, func, storage, moment):
        self.check(func, self.written.get(storage))
        self.read.setdefault(storage, Counter())[moment[0]] = moment[1]

    def write(self, func, storage, moment):
        for reader in self.read.get(storage, {}).items():
            self.check(func, reader)
        self.written[storage] = moment

    def check(self, func, moment):
        if moment is not None and not Stream.present.has_seen(moment):
            raise Race(f"{func} on stream {Stream.present.number} does not wait for {moment}")

    @property
    def pinned(self):
        def copy(tensor):
            # Memory of the host: what was known of its place before is of something else.
            self.written.pop(storage_of(tensor), None)
            return tensor.clone()

        return copy

    @property
    def host_buffer(self):
        def buffer(runtime, num_samples):
            made = host_buffer(runtime, num_samples)
            self.written.pop(storage_of(made), None)  # no stream made it
            self.read.pop(storage_of(made), None)
            return made

        return buffer

    def on_host(self, tensor):
        moment = self.written.get(storage_of(tensor))
        if moment is not None and Stream.host[moment[0]] < moment[1]:
            raise Race(f"the host reads what {moment} may not have written yet")


def host_buffer(runtime, num_samples):
    """Memory of the host, with what was there before."""
    return torch.from_numpy(np.full(num_samples, -7, np.int16))


@contextlib.contextmanager
def fake_streams(monkeypatch):
    """Let another device pass for a GPU to all that asks `nightscribe.model.cuda_graphs`."""
    Stream.host, Stream.present = Counter(), Stream()
    monkeypatch.setattr(queues, "has_streams", lambda device: True)
    for name, pretended in {
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": graph,
        "stream": stream,
        "device": lambda device: contextlib.nullcontext(),
        "current_stream": lambda device: Stream.present,
        "graph_pool_handle": object,
    }.items():
        monkeypatch.setattr(torch.cuda, name, pretended)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(queues.CudaRuntime, "host_buffer", host_buffer)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    yield


@contextlib.contextmanager
def fake_cuda(monkeypatch):
    """A CPU that passes for a GPU; gives what watches."""
    watching = Watching()
    plain_empty, plain_numpy = torch.empty, torch.Tensor.numpy
    with fake_streams(monkeypatch), watching:
        monkeypatch.setattr(torch.Tensor, "pin_memory", watching.pinned)
        monkeypatch.setattr(queues.CudaRuntime, "host_buffer", watching.host_buffer)
        monkeypatch.setattr(
            torch, "empty", lambda *shape, pin_memory=False, **kwargs: plain_empty(*shape, **kwargs)
        )
        monkeypatch.setattr(
            torch.Tensor, "numpy", lambda tensor: (watching.on_host(tensor), plain_numpy(tensor))[1]
        )
        yield watching
