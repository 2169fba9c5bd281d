"""LoRA: learn a small product of two matrices beside each weight and leave the weight as it is.

D, E widths of a weight, R rank.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nightscribe.model.language_model import LanguageModel


class LowRank(nn.Module):
    """A weight plus `scaling` times a product that is zero before anything is learnt."""

    def __init__(self, weight_ED: Tensor, rank: int, scaling: float) -> None:
        super().__init__()
        num_outputs, num_inputs = weight_ED.shape
        self.down_RD = nn.Parameter(weight_ED.new_empty(rank, num_inputs))
        self.up_ER = nn.Parameter(weight_ED.new_zeros(num_outputs, rank))
        self.scaling = scaling
        nn.init.kaiming_uniform_(self.down_RD, a=5**0.5)

    def forward(self, weight_ED: Tensor) -> Tensor:
        return weight_ED + self.scaling * (self.up_ER @ self.down_RD)


def adapt(language_model: LanguageModel, rank: int, scaling: float) -> None:
    """Freeze the model and let only low-rank products on its transformer's weights learn."""
    language_model.requires_grad_(False)
    for linear in _linears(language_model):
        low_rank = LowRank(linear.weight, rank, scaling)
        parametrize.register_parametrization(linear, "weight", low_rank)


def merge(language_model: LanguageModel) -> None:
    """Fold what was learnt into the weights themselves."""
    for linear in _linears(language_model):
        if parametrize.is_parametrized(linear, "weight"):
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)


def _linears(language_model: LanguageModel) -> Iterator[nn.Linear]:
    for module in language_model.transformer.modules():
        if isinstance(module, nn.Linear):
            yield module


def learn_rows(table: nn.Embedding | nn.Linear, rows: slice) -> None:
    """Let only these rows of a table learn; the others keep their values to the bit."""
    is_learnt = torch.zeros(len(table.weight), 1, device=table.weight.device)
    is_learnt[rows] = 1
    table.weight.requires_grad_(True)
    table.weight.register_hook(lambda gradient: gradient * is_learnt)
