"""Training of the split residual quantizer: gradients pass straight through, codebooks follow.

B windows, F frames, D width, N = B x F, W width and V entries of a codebook.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.mimi import ResidualCodebooks, SplitQuantizer

DECAY = 0.99
RARE_SHARE = 0.01  # entries used less than this share of the average are put elsewhere


class Quantized(NamedTuple):
    decoded_BFD: Tensor
    commitment: Tensor  # how far the projected latents are from their codewords
    spread: Tensor  # how far they have strayed beyond unit scale


class TrainableQuantizer(nn.Module):
    """The product's quantizer with what only training needs: decoders, and counts of use."""

    def __init__(self, quantizer: SplitQuantizer, dim: int, max_power: float = 10.0) -> None:
        super().__init__()
        self.branches: list[ResidualCodebooks] = [quantizer.semantic, quantizer.acoustic]
        width = quantizer.semantic.codebooks_KVW.shape[-1]
        self.decoders = nn.ModuleList(nn.Linear(width, dim, bias=False) for _ in self.branches)
        self.counts = [torch.ones(b.codebooks_KVW.shape[:2]) for b in self.branches]
        self.max_power = max_power
        self.is_quantizing = False

    def forward(self, latents_BFD: Tensor) -> Quantized:
        decoded, commitment, spread = 0, torch.zeros(()), torch.zeros(())
        for branch, counts, decode in zip(self.branches, self.counts, self.decoders, strict=True):
            vectors_NW = branch.project_in(latents_BFD).flatten(0, 1).float()
            # Nothing else keeps the scale from growing, which would leave the codebooks behind.
            spread = spread + (vectors_NW.square().mean() - self.max_power).clamp_min(0)
            heard_NW = vectors_NW
            if self.is_quantizing:
                codewords_NW = self._nearest(branch, counts, vectors_NW.detach())
                commitment = commitment + F.mse_loss(vectors_NW, codewords_NW)
                heard_NW = vectors_NW + (codewords_NW - vectors_NW).detach()
            decoded = decoded + decode(heard_NW.unflatten(0, latents_BFD.shape[:2]))
        return Quantized(decoded, commitment, spread)

    @torch.no_grad()
    def start(self, latents_BFD: Tensor) -> None:
        """Fit the codebooks by k-means, level by level, and quantize from now on."""
        for branch in self.branches:
            rest_NW = branch.project_in(latents_BFD).flatten(0, 1).float()
            for codebook_VW in branch.codebooks_KVW:
                codebook_VW.copy_(_k_means(rest_NW, len(codebook_VW)))
                rest_NW = rest_NW - codebook_VW[_nearest(rest_NW, codebook_VW)]
            branch.settle()
        self.is_quantizing = True

    @torch.no_grad()
    def _nearest(self, branch: ResidualCodebooks, counts: Tensor, vectors_NW: Tensor) -> Tensor:
        rest_NW, is_training = vectors_NW, self.training
        for codebook_VW, counts_V in zip(branch.codebooks_KVW, counts, strict=True):
            nearest_N = _nearest(rest_NW, codebook_VW)
            codewords_NW = codebook_VW[nearest_N]
            if is_training:
                _follow(codebook_VW, counts_V, rest_NW, nearest_N)
            rest_NW = rest_NW - codewords_NW
        if is_training:
            branch.settle()
        return vectors_NW - rest_NW


def _follow(codebook_VW: Tensor, counts_V: Tensor, rest_NW: Tensor, nearest_N: Tensor) -> None:
    """Move each entry towards the mean of what chose it, in place."""
    chosen_V = torch.bincount(nearest_N, minlength=len(codebook_VW)).float()
    sums_VW = torch.zeros_like(codebook_VW).index_add_(0, nearest_N, rest_NW)
    totals_VW = DECAY * codebook_VW * counts_V[:, None] + (1 - DECAY) * sums_VW
    counts_V.mul_(DECAY).add_(chosen_V, alpha=1 - DECAY)
    codebook_VW.copy_(totals_VW / counts_V.clamp_min(1e-5)[:, None])
    is_rare_V = counts_V < RARE_SHARE * counts_V.mean()
    elsewhere = torch.randint(len(rest_NW), (int(is_rare_V.sum()),))
    codebook_VW[is_rare_V] = rest_NW[elsewhere]
    counts_V[is_rare_V] = counts_V.mean()


def _k_means(vectors_NW: Tensor, num_entries: int, rounds: int = 8) -> Tensor:
    entries_VW = vectors_NW[torch.randperm(len(vectors_NW))[:num_entries]].clone()
    for _ in range(rounds):
        nearest_N = _nearest(vectors_NW, entries_VW)
        counts_V1 = torch.bincount(nearest_N, minlength=num_entries).float()[:, None]
        sums_VW = torch.zeros_like(entries_VW).index_add_(0, nearest_N, vectors_NW)
        entries_VW = torch.where(counts_V1 > 0, sums_VW / counts_V1.clamp_min(1), entries_VW)
    return entries_VW


def _nearest(vectors_NW: Tensor, codebook_VW: Tensor) -> Tensor:
    return (codebook_VW.square().sum(1) / 2 - vectors_NW @ codebook_VW.T).argmin(dim=1)
