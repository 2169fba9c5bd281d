"""LoRA: trains a small product of two matrices beside each weight and leaves the weight as it is.

D, E widths of a weight, R rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nightscribe.model.language_model import LanguageModel
from nightscribe.options import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """Low-rank adapters."""

    rank: int = option(0, "rank of the LoRA adapters; 0: train all weights", minimum=0, common=True)
    scaling: float = option(2.0, "scaling of the adapters")

    def __post_init__(self) -> None:
        check_options(self, "adapter")


class LoRA(nn.Module):
    """A weight plus `scaling` times a product of two matrices, zero at first."""

    def __init__(self, weight_ED: Tensor, rank: int, scaling: float) -> None:
        super().__init__()
        num_outputs, num_inputs = weight_ED.shape
        self.down_RD = nn.Parameter(weight_ED.new_empty(rank, num_inputs))
        self.up_ER = nn.Parameter(weight_ED.new_zeros(num_outputs, rank))
        self.scaling = scaling
        nn.init.kaiming_uniform_(self.down_RD, a=5**0.5)

    def forward(self, weight_ED: Tensor) -> Tensor:
        return weight_ED + self.scaling * (self.up_ER @ self.down_RD)


def add_lora(language_model: LanguageModel, rank: int, scaling: float) -> None:
    """Freeze the model and add trainable LoRA matrices to the weights of its transformer."""
    language_model.requires_grad_(False)
    for linear in _linears(language_model):
        lora = LoRA(linear.weight, rank, scaling)
        parametrize.register_parametrization(linear, "weight", lora)


def merge_lora(language_model: LanguageModel) -> None:
    """Merge the LoRA matrices into the weights."""
    for linear in _linears(language_model):
        if parametrize.is_parametrized(linear, "weight"):
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)


def _linears(language_model: LanguageModel) -> Iterator[nn.Linear]:
    for module in language_model.transformer.modules():
        if isinstance(module, nn.Linear):
            yield module


def train_rows(table: nn.Embedding | nn.Linear, rows: slice) -> None:
    """Train only these rows of a table; the others keep their exact values."""
    is_trained = torch.zeros(len(table.weight), 1, device=table.weight.device)
    is_trained[rows] = 1
    table.weight.requires_grad_(True)
    table.weight.register_hook(lambda gradient: gradient * is_trained)
