"""Mimi's split residual quantizer: a vector per frame to one code per codebook.

B rows, F frames, N = B x F, K codebooks, V entries of a codebook, D width of the latents,
W width of a codebook's vectors.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nightscribe.model.config import MimiConfig
from nightscribe.model.native import NativeTensor, whole

MIN_USAGE = 1e-5  # of a codebook entry; the training's own guard against division by zero


class ResidualCodebooks(nn.Module):
    """Codebooks in a row, each quantizing what the ones before have left."""

    codebooks_KVW: Tensor
    usage_KV: Tensor
    half_norms_KV: Tensor

    def __init__(self, latent_dim: int, num_codebooks: int, config: MimiConfig) -> None:
        super().__init__()
        size, width = config.codebook_size, config.codebook_dim
        self.project_in = nn.Linear(latent_dim, width, bias=False)
        self.register_buffer("codebooks_KVW", torch.randn(num_codebooks, size, width))
        self.register_buffer("usage_KV", torch.ones(num_codebooks, size), persistent=False)
        self.register_buffer("half_norms_KV", torch.empty(num_codebooks, size), persistent=False)
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Fold the usage counts of a checkpoint into the codebooks; call after changing either."""
        self.codebooks_KVW /= self.usage_KV.clamp_min(MIN_USAGE)[..., None]
        self.usage_KV.fill_(1)
        self.half_norms_KV.copy_(self.codebooks_KVW.square().sum(-1) / 2)

    def forward(self, latents_BFD: Tensor) -> Tensor:
        """The nearest entry of each codebook in turn: codes_BFK."""
        rest_NW = self.project_in(latents_BFD).flatten(0, 1)
        codes_KN = rest_NW.new_empty(len(self.codebooks_KVW), len(rest_NW), dtype=torch.int64)
        for level, codebook_VW in enumerate(self.codebooks_KVW):
            # The nearest entry e of x has the largest x.e - |e|^2 / 2.
            scores_NV = torch.addmm(self.half_norms_KV[level], rest_NW, codebook_VW.T, beta=-1)
            codes_KN[level] = scores_NV.argmax(dim=-1)
            rest_NW = rest_NW - codebook_VW[codes_KN[level]]
        return codes_KN.T.unflatten(0, latents_BFD.shape[:2])

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        weight = self.project_in.weight
        yield f"{prefix}.input_proj.weight", whole(weight, *weight.shape, 1)
        for level, codebook_VW in enumerate(self.codebooks_KVW):
            codebook = f"{prefix}.vq.layers.{level}._codebook"
            yield f"{codebook}.embedding_sum", whole(codebook_VW)
            yield f"{codebook}.cluster_usage", whole(self.usage_KV[level])


class SplitQuantizer(nn.Module):
    """One semantic codebook and the acoustic ones; both branches read the same latents."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.semantic = ResidualCodebooks(config.dim, 1, config)
        self.acoustic = ResidualCodebooks(config.dim, config.num_codebooks - 1, config)

    def forward(self, latents_BFD: Tensor) -> Tensor:
        return torch.cat((self.semantic(latents_BFD), self.acoustic(latents_BFD)), dim=-1)

    def settle(self) -> None:
        self.semantic.settle()
        self.acoustic.settle()

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        yield from self.semantic.native_tensors(f"{prefix}.rvq_first")
        yield from self.acoustic.native_tensors(f"{prefix}.rvq_rest")
