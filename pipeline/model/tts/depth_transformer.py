"""The depth transformer: the codes of one frame, each from the output of the backbone and the codes
before it.

Its positions are codebooks. Every codebook uses one of several sets of weights; all share the
norms. Attention sees the codebooks before it, without positions.

R rows, K codebooks, D width of the backbone, W width of the depth transformer, H heads, E head
dimension, V codes of a codebook, X sets of weights, G hidden width of the feed-forward.
"""

from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.native_tensors import NativeTensor, whole
from nightscribe.model.transformer import RMSNorm
from nightscribe.model.tts.config import DepthConfig, TextToSpeechConfig
from nightscribe.model.tts.text_embedding import TextEmbedding

# The code of every sampled row for one codebook, from its logits.
ChooseCodes = Callable[[int, Tensor], Tensor]


class DepthLayer(nn.Module):
    """One layer with its sets of weights."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        num_sets, dim, ffn_dim = config.num_weight_sets, config.dim, config.ffn_dim
        self.num_heads = config.num_heads
        self.attention_norm = RMSNorm(dim, config.norm_eps)
        self.feed_forward_norm = RMSNorm(dim, config.norm_eps)
        self.project_in_X = nn.Parameter(torch.empty(num_sets, 3 * dim, dim))
        self.project_out_X = nn.Parameter(torch.empty(num_sets, dim, dim))
        self.gates_in_X = nn.Parameter(torch.empty(num_sets, 2 * ffn_dim, dim))
        self.gates_out_X = nn.Parameter(torch.empty(num_sets, dim, ffn_dim))

    def forward(self, x_RW: Tensor, kv_2RHKE: Tensor, codebook: int, weight_set: int) -> Tensor:
        """One codebook of every row; its keys and values are written at its position."""
        qkv_RW3 = F.linear(self.attention_norm(x_RW), self.project_in_X[weight_set])
        qkv_R3HE = qkv_RW3.view(len(x_RW), 3, self.num_heads, -1)
        kv_2RHKE[:, :, :, codebook] = qkv_R3HE[:, 1:].transpose(0, 1)
        keys_RHKE, values_RHKE = kv_2RHKE[:, :, :, : codebook + 1]
        output_RH1E = F.scaled_dot_product_attention(
            qkv_R3HE[:, 0, :, None], keys_RHKE, values_RHKE
        )
        x_RW = x_RW + F.linear(output_RH1E.flatten(1), self.project_out_X[weight_set])
        gate_RG, up_RG = F.linear(self.feed_forward_norm(x_RW), self.gates_in_X[weight_set]).chunk(
            2, dim=-1
        )
        return x_RW + F.linear(F.silu(gate_RG) * up_RG, self.gates_out_X[weight_set])

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        num_sets, _, dim = self.project_in_X.shape
        yield (
            f"{prefix}.self_attn.in_proj_weight",
            whole(self.project_in_X, num_sets * 3 * dim, dim),
        )
        yield f"{prefix}.self_attn.out_proj.weight", whole(self.project_out_X, num_sets * dim, dim)
        for index in range(num_sets):
            gating = f"{prefix}.gating.{index}"
            yield f"{gating}.linear_in.weight", whole(self.gates_in_X[index])
            yield f"{gating}.linear_out.weight", whole(self.gates_out_X[index])
        yield f"{prefix}.norm1.alpha", whole(self.attention_norm.scale_D, 1, 1, dim)
        yield f"{prefix}.norm2.alpha", whole(self.feed_forward_norm.scale_D, 1, 1, dim)


class CodeEmbedding(nn.Module):
    """The embedding of a code that has just been sampled."""

    def __init__(self, num_rows: int, config: DepthConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(num_rows, config.embedding_dim)
        narrow = config.low_rank is not None
        self.widen = nn.Linear(config.embedding_dim, config.dim, bias=False) if narrow else None

    def forward(self, codes_R: Tensor) -> Tensor:
        embedded_RW = self.table(codes_R)
        return embedded_RW if self.widen is None else self.widen(embedded_RW)

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        yield f"{prefix}.weight", whole(self.table.weight)
        if self.widen is not None:
            yield f"{prefix}.low_rank.weight", whole(self.widen.weight)


class DepthTransformer(nn.Module):
    """Backbone output and text token of a step to the codes of a frame."""

    def __init__(self, config: TextToSpeechConfig) -> None:
        super().__init__()
        depth = self.config = config.depth
        num_codebooks = len(depth.weight_sets)
        self.project_in_X = nn.Parameter(torch.empty(depth.num_weight_sets, depth.dim, config.dim))
        self.text_embedding = TextEmbedding(
            config.text_card + 1, depth.embedding_dim, depth.dim, config.has_second_stream
        )
        self.code_embeddings = nn.ModuleList(
            CodeEmbedding(config.audio_card + 1, depth) for _ in range(num_codebooks - 1)
        )
        self.layers = nn.ModuleList(DepthLayer(depth) for _ in range(depth.num_layers))
        self.heads = nn.Parameter(torch.empty(num_codebooks, config.audio_card, depth.dim))

    def forward(
        self, y_RD: Tensor, text_R: Tensor, num_codebooks: int, choose: ChooseCodes
    ) -> Tensor:
        """Codes SK; `choose` gets a codebook and its logits RV, and gives a code for each row.

        Where `choose` answers for fewer rows than there are, the others repeat its answer: with
        guidance every text has two rows.
        """
        x_RW = self.text_embedding(text_R)
        codes: list[Tensor] = []
        kv = self._empty_cache(y_RD, num_codebooks)
        for codebook, weight_set in enumerate(self.config.weight_sets[:num_codebooks]):
            if codes:
                repeats = len(y_RD) // len(codes[-1])
                x_RW = self.code_embeddings[codebook - 1](codes[-1].repeat(repeats))
            x_RW = x_RW + F.linear(y_RD, self.project_in_X[weight_set])
            for layer, kv_2RHKE in zip(self.layers, kv, strict=True):
                x_RW = layer(x_RW, kv_2RHKE, codebook, weight_set)
            codes.append(choose(codebook, F.linear(x_RW, self.heads[codebook]).float()))
        return torch.stack(codes, dim=-1)

    def _empty_cache(self, y_RD: Tensor, num_codebooks: int) -> list[Tensor]:
        """Keys and values of every layer; nothing of them outlives the frame."""
        heads = self.config.num_heads
        shape = (2, len(y_RD), heads, num_codebooks, self.config.dim // heads)
        return [y_RD.new_empty(shape) for _ in self.layers]

    def native_tensors(self) -> Iterator[tuple[str, NativeTensor]]:
        for index in range(self.config.num_weight_sets):
            yield f"depformer_in.{index}.weight", whole(self.project_in_X[index])
        yield from self.text_embedding.native_tensors("depformer_text_emb")
        for index, embedding in enumerate(self.code_embeddings):
            yield from cast(CodeEmbedding, embedding).native_tensors(f"depformer_emb.{index}")
        for index, layer in enumerate(self.layers):
            yield from cast(DepthLayer, layer).native_tensors(f"depformer.layers.{index}")
        for index in range(len(self.heads)):
            yield f"linears.{index}.weight", whole(self.heads[index])
