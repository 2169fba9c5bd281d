"""The state of a training: weights, their moving average and AdamW's moments; one step; saving.

What is drawn at a step depends on seed, worker and step alone, so a resumed training equals one
that was never interrupted.

S windows, P positions, V text tokens, H extra heads, A classes of a head.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.language_model import LanguageModel
from nightscribe.options import check_options, option
from nightscribe.training.batches import Batch

# Averages gradients over workers.
SyncGradients = Callable[[Iterable[nn.Parameter]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW, its learning rate and the weights of the loss."""

    learning_rate: float = option(1e-4, "peak learning rate", above=0, common=True)
    warmup_steps: int = option(50, "steps of linear warm-up to the peak")
    final_share: float = option(0.05, "learning rate at the last step, as a share of the peak")
    weight_decay: float = option(0.05, "weight decay of AdamW")
    max_gradient_norm: float = option(1.0, "gradients are clipped to this norm")
    padding_weight: float = option(0.5, "weight of padding tokens in the loss, beside 1 for text")
    heads_weight: float = option(0.05, "weight of the extra heads in the loss")
    ema_decay: float = option(
        0.998, "decay of the moving average of the weights; 0: keep the last weights", minimum=0
    )

    def __post_init__(self) -> None:
        check_options(self, "optimizer")
        if not self.ema_decay < 1:
            raise ValueError(f"optimizer.ema_decay must be below 1, got {self.ema_decay}")


class Losses(NamedTuple):
    """Nats per token, and the share of text tokens that are predicted correctly."""

    all: float
    text: float
    heads: float
    accuracy: float


def no_sync(parameters: Iterable[nn.Parameter]) -> None:
    """A single worker has nothing to average."""


class TrainState:
    """A language model in training, one step per batch."""

    def __init__(
        self,
        language_model: LanguageModel,
        config: OptimizerConfig,
        num_steps: int,
        sync: SyncGradients = no_sync,
    ) -> None:
        self.language_model = language_model
        self.config = config
        self.num_steps = num_steps
        self.sync = sync
        self.step = 0
        self.parameters = {
            name: parameter
            for name, parameter in language_model.named_parameters()
            if parameter.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}

    def update(self, batch: Batch) -> Losses:
        """Train on one batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.num_steps, self.config)
        loss, losses = self.losses(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.sync(self.parameters.values())
        nn.utils.clip_grad_norm_(self.parameters.values(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.step += 1
        self._average()
        return losses

    def losses(self, batch: Batch) -> tuple[Tensor, Losses]:
        """The loss that is minimised, and the figures for the log."""
        logits_SPV, extra_SPHA = self.language_model(batch.codes_SPK, batch.inputs_SP)
        nats_SP = F.cross_entropy(logits_SPV.mT, batch.targets_SP, reduction="none")
        is_text_SP = batch.is_scored_SP & (
            batch.targets_SP != self.language_model.config.padding_id
        )
        weights_SP = torch.where(is_text_SP, 1.0, self.config.padding_weight) * batch.is_scored_SP
        loss = text_loss = (nats_SP * weights_SP).sum() / weights_SP.sum()
        heads = torch.zeros(())
        if extra_SPHA is not None and batch.head_targets_SPH is not None:
            heads = head_loss(extra_SPHA, batch.head_targets_SPH)
            loss = text_loss + self.config.heads_weight * heads
        is_correct_SP = (logits_SPV.argmax(dim=-1) == batch.targets_SP) & is_text_SP
        num_text = is_text_SP.sum().clamp_min(1)
        text = (nats_SP * is_text_SP).sum() / num_text
        figures = (loss, text, heads, is_correct_SP.sum() / num_text)
        return loss, Losses(*(value.item() for value in figures))

    @torch.no_grad()
    def _average(self) -> None:
        # Early in the training, the average must forget the initial weights quickly.
        decay = min(self.config.ema_decay, self.step / (self.step + 10))
        for name, parameter in self.parameters.items():
            self.averages[name].lerp_(parameter, 1 - decay if self.config.ema_decay else 1.0)

    @torch.no_grad()
    def swap_averages(self) -> None:
        """Swap the weights and their averages: before an evaluation or export, and after."""
        for name, parameter in self.parameters.items():
            weights = parameter.clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(weights)


def head_loss(extra_SPHA: Tensor, head_targets_SPH: Tensor) -> Tensor:
    """Cross-entropy of the extra heads, which output probabilities."""
    smallest = torch.finfo(extra_SPHA.dtype).tiny
    chosen_SPH = extra_SPHA.gather(-1, head_targets_SPH[..., None])[..., 0]
    return -chosen_SPH.clamp_min(smallest).log().mean()


def learning_rate(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then half a cosine down."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    progress = min(1.0, step / max(num_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * warmup * (config.final_share + (1 - config.final_share) * cosine)


WEIGHT, AVERAGE = "weight", "average"
MOMENTS = ("exp_avg", "exp_avg_sq")


def save(state: TrainState, path: Path) -> None:
    """Write the file atomically."""
    tensors = {name: tensor.contiguous() for name, tensor in _tensors(state)}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"step": str(state.step)})
    os.replace(partial, path)


def resume(state: TrainState, path: Path) -> None:
    """Resume from a file saved for a model of the same shape."""
    with safe_open(path, framework="pt") as stored:
        names = {f"{WEIGHT}/{name}" for name in state.parameters}
        found = {name for name in stored.keys() if name.startswith(f"{WEIGHT}/")}  # noqa: SIM118
        if names != found:
            raise ValueError(f"{path} belongs to another training: its trainable weights differ")
        state.step = int(stored.metadata()["step"])
        for name in state.parameters:
            _restore(state, name, {kind: stored.get_tensor(f"{kind}/{name}") for kind in _kinds()})


def _kinds() -> tuple[str, ...]:
    return (WEIGHT, AVERAGE, *MOMENTS)


def _tensors(state: TrainState) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in state.parameters.items():
        yield f"{WEIGHT}/{name}", parameter.detach()
        yield f"{AVERAGE}/{name}", state.averages[name]
        moments = state.optimizer.state[parameter]
        for kind in MOMENTS:
            yield f"{kind}/{name}", moments.get(kind, torch.zeros_like(parameter))


@torch.no_grad()
def _restore(state: TrainState, name: str, tensors: dict[str, Tensor]) -> None:
    parameter = state.parameters[name]
    parameter.copy_(tensors[WEIGHT])
    state.averages[name].copy_(tensors[AVERAGE])
    moments = {kind: tensors[kind].to(parameter.device) for kind in MOMENTS}
    state.optimizer.state[parameter] = {"step": torch.tensor(float(state.step)), **moments}
