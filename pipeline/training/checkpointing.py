"""Where a training stands, in one safetensors file: weights, averages and the optimiser's memory.

What is drawn at a step depends on seed, worker and step alone, so nothing else is needed to go on
exactly as if nothing had happened.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nightscribe.training.learner import Learner

WEIGHT, AVERAGE = "weight", "average"
MEMORIES = ("exp_avg", "exp_avg_sq")


def save_training(learner: Learner, path: Path) -> None:
    """Write the file whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in _tensors(learner)}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"step": str(learner.step)})
    os.replace(partial, path)


def resume_training(learner: Learner, path: Path) -> None:
    """Go on from a file that was saved for a model of the same shape."""
    with safe_open(path, framework="pt") as stored:
        names = {f"{WEIGHT}/{name}" for name in learner.parameters}
        found = {name for name in stored.keys() if name.startswith(f"{WEIGHT}/")}  # noqa: SIM118
        if names != found:
            raise ValueError(f"{path} belongs to another training: it learns other weights")
        learner.step = int(stored.metadata()["step"])
        for name in learner.parameters:
            _restore(
                learner, name, {kind: stored.get_tensor(f"{kind}/{name}") for kind in _kinds()}
            )


def _kinds() -> tuple[str, ...]:
    return (WEIGHT, AVERAGE, *MEMORIES)


def _tensors(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in learner.parameters.items():
        yield f"{WEIGHT}/{name}", parameter.detach()
        yield f"{AVERAGE}/{name}", learner.averages[name]
        memory = learner.optimizer.state[parameter]
        for kind in MEMORIES:
            yield f"{kind}/{name}", memory.get(kind, torch.zeros_like(parameter))


@torch.no_grad()
def _restore(learner: Learner, name: str, tensors: dict[str, Tensor]) -> None:
    parameter = learner.parameters[name]
    parameter.copy_(tensors[WEIGHT])
    learner.averages[name].copy_(tensors[AVERAGE])
    memory = {kind: tensors[kind].to(parameter.device) for kind in MEMORIES}
    learner.optimizer.state[parameter] = {"step": torch.tensor(float(learner.step)), **memory}
