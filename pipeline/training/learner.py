"""One step of learning: losses, gradients, weights and their running average.

S windows, P positions, V text tokens, H extra heads, A answers of a head.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.language_model import LanguageModel
from nightscribe.options import check_options, option
from nightscribe.training.batches import Batch

# How workers agree on their gradients; one worker agrees with itself.
Agree = Callable[[Iterable[nn.Parameter]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningConfig:
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
    """Nats a token, and the share of text tokens that would have been written right."""

    all: float
    text: float
    heads: float
    accuracy: float


def alone(parameters: Iterable[nn.Parameter]) -> None:
    """The agreement of a single worker."""


class Learner:
    """A language model that learns batch by batch."""

    def __init__(
        self,
        language_model: LanguageModel,
        config: LearningConfig,
        num_steps: int,
        agree: Agree = alone,
    ) -> None:
        self.language_model = language_model
        self.config = config
        self.num_steps = num_steps
        self.agree = agree
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

    def learn(self, batch: Batch) -> Losses:
        """Improve the model by one batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.num_steps, self.config)
        loss, losses = self.losses(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.agree(self.parameters.values())
        nn.utils.clip_grad_norm_(self.parameters.values(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.step += 1
        self._average()
        return losses

    def losses(self, batch: Batch) -> tuple[Tensor, Losses]:
        """What is minimised, and what is worth telling of it."""
        logits_SPV, extra_SPHA = self.language_model(batch.codes_SPK, batch.heard_SP)
        nats_SP = F.cross_entropy(logits_SPV.mT, batch.written_SP, reduction="none")
        is_text_SP = batch.is_asked_SP & (batch.written_SP != self.language_model.config.padding_id)
        weights_SP = torch.where(is_text_SP, 1.0, self.config.padding_weight) * batch.is_asked_SP
        loss = written = (nats_SP * weights_SP).sum() / weights_SP.sum()
        heads = torch.zeros(())
        if extra_SPHA is not None and batch.answers_SPH is not None:
            heads = heads_nats(extra_SPHA, batch.answers_SPH)
            loss = written + self.config.heads_weight * heads
        is_right_SP = (logits_SPV.argmax(dim=-1) == batch.written_SP) & is_text_SP
        num_text = is_text_SP.sum().clamp_min(1)
        text = (nats_SP * is_text_SP).sum() / num_text
        told = (loss, text, heads, is_right_SP.sum() / num_text)
        return loss, Losses(*(value.item() for value in told))

    @torch.no_grad()
    def _average(self) -> None:
        # A young average must not remember the weights it began with.
        kept = min(self.config.ema_decay, self.step / (self.step + 10))
        for name, parameter in self.parameters.items():
            self.averages[name].lerp_(parameter, 1 - kept if self.config.ema_decay else 1.0)

    @torch.no_grad()
    def swap_averages(self) -> None:
        """Exchange the weights and their averages: before measuring or writing, and after."""
        for name, parameter in self.parameters.items():
            weights = parameter.clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(weights)


def heads_nats(extra_SPHA: Tensor, answers_SPH: Tensor) -> Tensor:
    """What the right answers cost; the heads give probabilities."""
    smallest = torch.finfo(extra_SPHA.dtype).tiny
    right_SPH = extra_SPHA.gather(-1, answers_SPH[..., None])[..., 0]
    return -right_SPH.clamp_min(smallest).log().mean()


def learning_rate(step: int, num_steps: int, config: LearningConfig) -> float:
    """Up in a line, then down along half a cosine."""
    warmth = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    progress = min(1.0, step / max(num_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * warmth * (config.final_share + (1 - config.final_share) * cosine)
