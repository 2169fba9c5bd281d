"""The native (moshi) layout of weights, as views into the parameters of our modules.

Our modules join tables. A native tensor is a view into a joined parameter, through which it is
loaded and written back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, slots=True)
class NativeTensor:
    """One native tensor: its shape, and the view that holds its data."""

    shape: tuple[int, ...]
    view: Tensor

    @torch.no_grad()
    def fill(self, tensor: Tensor) -> None:
        self.view.copy_(tensor.reshape(self.view.shape))

    def read(self) -> Tensor:
        return self.view.detach().clone().reshape(self.shape)


def whole(tensor: Tensor, *shape: int) -> NativeTensor:
    """A native tensor that is one whole tensor of ours, in another shape or the same."""
    shape = shape or tuple(tensor.shape)
    assert tensor.numel() == prod(shape)
    return NativeTensor(shape, tensor)


def fill(
    places: Mapping[str, NativeTensor],
    tensors: Iterable[tuple[str, Tensor]],
    is_unused: Callable[[str], bool],
) -> None:
    """Load every native tensor into its place; refuses missing, surplus and misshapen ones."""
    missing = dict.fromkeys(places)
    for name, tensor in tensors:
        if name not in places:
            if is_unused(name):
                continue
            raise ValueError(f"the checkpoint has a tensor {name!r} that its config does not name")
        expected = places[name].shape
        if tuple(tensor.shape) != expected:
            found = list(tensor.shape)
            raise ValueError(f"tensor {name!r} has shape {found}, expected {list(expected)}")
        places[name].fill(tensor)
        missing.pop(name, None)
    if missing:
        shape = list(places[next(iter(missing))].shape)
        raise ValueError(f"the checkpoint lacks tensor {next(iter(missing))!r} of shape {shape}")


def read(places: Mapping[str, NativeTensor]) -> Iterator[tuple[str, Tensor]]:
    """Every native tensor, one at a time."""
    return ((name, place.read()) for name, place in places.items())


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules that are made inside have shapes and no data."""
    with torch.device("meta"), _NoStartValues():
        yield


def give_memory(module: Module, device: torch.device | str) -> None:
    """`Module.to_empty`, for which torch would import its symbolic algebra: a second, for nothing.

    The values are still to be filled in.
    """
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            empty = torch.empty(weight.shape, dtype=weight.dtype, device=device)
            setattr(part, name, Parameter(empty, weight.requires_grad))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))


class _NoStartValues(TorchFunctionMode):
    """Draws no start values: without memory they are nothing, and torch loads its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)
