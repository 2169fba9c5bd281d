"""Training on several workers: Ray Train places them, each trains on its own windows.

Ray Train is imported where several workers are asked for: that takes seconds, which a single
worker and the help do without.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nightscribe.options import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Processes of data-parallel training."""

    num_workers: int = option(1, "training processes", minimum=1, common=True)
    gpus_each: float = option(0.0, "GPUs per process; 0: train on CPUs", minimum=0, common=True)
    cpus_each: int = option(1, "CPUs per process", minimum=1)

    def __post_init__(self) -> None:
        check_options(self, "workers")


@dataclass(frozen=True, slots=True)
class Worker:
    """The rank and the device of this process."""

    rank: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this worker writes files and logs."""
        return self.rank == 0


def train_on_workers(
    train: Callable[[Any, Worker], None], task: Any, workers: WorkersConfig, storage: str
) -> None:
    """Run `train(task, worker)` in every worker and wait; the first error is raised here."""
    import ray.train
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        lambda: train(task, _this_worker()),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.gpus_each > 0,
            resources_per_worker=_resources(workers),
        ),
        run_config=ray.train.RunConfig(storage_path=storage, name="ray-train"),
    )
    trainer.fit()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Set the gradients of every worker to their mean over all workers, in one all-reduce."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    joined = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(joined)
    joined /= torch.distributed.get_world_size()
    pieces = joined.split([gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


def _this_worker() -> Worker:
    import ray.train.torch

    rank = ray.train.get_context().get_world_rank()
    return Worker(rank, ray.train.torch.get_device())


def _resources(workers: WorkersConfig) -> dict[str, float]:
    resources = {"CPU": float(workers.cpus_each)}
    return resources | ({"GPU": workers.gpus_each} if workers.gpus_each else {})
