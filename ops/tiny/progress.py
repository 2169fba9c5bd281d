"""What a long training must keep to go on: weights, their average, and the optimizer's moments."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

AVERAGING = 0.996
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Progress:
    """The steps made and the average over the last few hundred of them."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.step = 0
        self.optimizer = optimizer
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.averages = {n: p.detach().clone() for n, p in self.parameters.items()}

    @torch.no_grad()
    def average(self) -> None:
        """Count a step; the first steps weigh as much as there are of them."""
        self.step += 1
        kept = min(AVERAGING, self.step / (self.step + 10))
        for name, parameter in self.parameters.items():
            self.averages[name].lerp_(parameter, 1 - kept)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The module with its average, and afterwards again as it was."""
        before = {n: p.detach().clone() for n, p in self.parameters.items()}
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    def save(self, path: Path) -> None:
        tensors = {"steps": torch.tensor(self.step)}
        for name, parameter in self.parameters.items():
            tensors[f"now.{name}"] = parameter.detach()
            tensors[f"average.{name}"] = self.averages[name]
            for moment, value in self.optimizer.state[parameter].items():
                tensors[f"{moment}.{name}"] = value
        partial = path.with_suffix(".partial")
        save_file({n: t.contiguous() for n, t in tensors.items()}, partial)
        partial.rename(path)

    def load(self, path: Path) -> None:
        tensors = load_file(path)
        self.step = int(tensors["steps"])
        self._put({name: tensors[f"now.{name}"] for name in self.parameters})
        for name, parameter in self.parameters.items():
            self.averages[name].copy_(tensors[f"average.{name}"])
            self.optimizer.state[parameter] = {m: tensors[f"{m}.{name}"] for m in MOMENTS}
