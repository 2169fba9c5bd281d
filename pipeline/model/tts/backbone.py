"""The backbone: codes and text of the last step to logits of the next word and a depth input.

A decoder-only transformer as in speech to text. Between attention and feed-forward, models with
voices attend to a cross-attention source.

R rows, K codebooks, D width, C positions of a cross-attention source, H heads, E head dimension,
V text ids that are predicted.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from nightscribe.model.kv_cache import KVCache
from nightscribe.model.language_model import native_layer
from nightscribe.model.native_tensors import NativeTensor, whole
from nightscribe.model.transformer import (
    Geometry,
    RMSNorm,
    Transformer,
    Window,
    gated_decoder,
    ring_mask,
)
from nightscribe.model.tts.config import TextToSpeechConfig
from nightscribe.model.tts.text_embedding import TextEmbedding, summed_rows

CROSS_NORM_EPS = 1e-5


class SourceKV(NamedTuple):
    """Keys and values of one layer for one source, shared by every row that attends to it."""

    keys_HCE: Tensor
    values_HCE: Tensor


class CrossAttention(nn.Module):
    """Attention of every row to its source, without positions or a mask."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim, CROSS_NORM_EPS)
        self.project_in = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.project_out = nn.Linear(dim, dim, bias=False)

    def source(self, source_CD: Tensor) -> SourceKV:
        """Keys and values, computed once per source."""
        dim = source_CD.shape[-1]
        kv_CX = source_CD @ self.project_in.weight[dim:].T
        keys_HCE, values_HCE = (
            part.view(len(source_CD), self.num_heads, -1).transpose(0, 1).contiguous()
            for part in kv_CX.chunk(2, dim=-1)
        )
        return SourceKV(keys_HCE, values_HCE)

    def forward(self, x_RD: Tensor, sources: Sequence[tuple[Tensor, SourceKV]]) -> Tensor:
        """What is attended to; `sources` gives the rows of each source."""
        dim = x_RD.shape[-1]
        queries_RD = self.norm(x_RD) @ self.project_in.weight[:dim].T
        output_RD = torch.zeros_like(queries_RD)
        for rows, kv in sources:
            output_RD[rows] = self._attend(queries_RD[rows], kv)
        return self.project_out(output_RD)

    def _attend(self, queries_RD: Tensor, kv: SourceKV) -> Tensor:
        """All rows of one source: one matrix product per head."""
        queries_HRE = queries_RD.view(len(queries_RD), self.num_heads, -1).transpose(0, 1)
        scores_HRC = queries_HRE @ kv.keys_HCE.mT * queries_HRE.shape[-1] ** -0.5
        output_HRE = scores_HRC.softmax(dim=-1) @ kv.values_HCE
        return output_HRE.transpose(0, 1).flatten(1)


# For each source in use: its rows, and its keys and values in every layer.
RowsOfSources = Sequence[tuple[Tensor, Sequence[SourceKV]]]


class Backbone(nn.Module):
    """All weights of a step but those of the depth transformer."""

    def __init__(self, config: TextToSpeechConfig) -> None:
        super().__init__()
        self.config = config
        self.rows_per_codebook = config.audio_card + 1
        self.audio_table = nn.Embedding(config.num_codebooks * self.rows_per_codebook, config.dim)
        self.text_embedding = TextEmbedding(
            config.text_card + 1, config.dim, config.dim, config.has_second_stream
        )
        self.transformer = _transformer(config)
        num_cross = config.num_layers if config.speakers else 0
        cross = [CrossAttention(config.dim, config.num_heads) for _ in range(num_cross)]
        self.cross_attentions = cast(list[CrossAttention], nn.ModuleList(cross))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.text_head = nn.Linear(config.dim, config.text_card_out, bias=False)

    def sources(self, source_CD: Tensor) -> list[SourceKV]:
        """Keys and values of a cross-attention source in every layer."""
        return [attention.source(source_CD) for attention in self.cross_attentions]

    def embed(self, codes_RK: Tensor, text_R: Tensor, condition_RD: Tensor) -> Tensor:
        """The input of a step; negative ids add nothing."""
        codebooks = torch.arange(codes_RK.shape[1], device=codes_RK.device)
        starts_K = codebooks * self.rows_per_codebook
        x_RD = summed_rows(self.audio_table.weight, starts_K, codes_RK)
        return x_RD + self.text_embedding(text_R) + condition_RD.to(x_RD.dtype)

    def extend(self, x_RD: Tensor, cache: KVCache, sources: RowsOfSources) -> Tensor:
        """One step of every row; the normed output, which the depth transformer reads too."""
        transformer = self.transformer
        x_R1D, ring = x_RD[:, None], cache.advance(1)
        rotations = transformer._rotations(ring.positions_BT)
        mask = ring_mask(ring, transformer.geometry.window, transformer.geometry.num_heads)
        for index, layer in enumerate(transformer.layers):
            queries, keys, values = layer.attention.project(layer.attention_norm(x_R1D), rotations)
            kv = cache.extend(index, keys, values, ring)
            x_R1D = x_R1D + layer.attention.attend(queries, *kv, mask)
            x_R1D = layer.add_feed_forward(self._cross(index, x_R1D, sources))
        return self.norm(x_R1D[:, 0])

    def _cross(self, index: int, x_R1D: Tensor, sources: RowsOfSources) -> Tensor:
        if not self.cross_attentions:
            return x_R1D
        of_layer = [(rows, kvs[index]) for rows, kvs in sources]
        return x_R1D + self.cross_attentions[index](x_R1D[:, 0], of_layer)[:, None]

    def native_tensors(self) -> Iterator[tuple[str, NativeTensor]]:
        tables = self.audio_table.weight.split(self.rows_per_codebook)
        for index, table in enumerate(tables):
            yield f"emb.{index}.weight", whole(table)
        yield from self.text_embedding.native_tensors("text_emb")
        for index, layer in enumerate(self.transformer.layers):
            yield from native_layer(f"transformer.layers.{index}", layer).items()
        for index, attention in enumerate(self.cross_attentions):
            prefix = f"transformer.layers.{index}"
            yield f"{prefix}.norm_cross.weight", whole(attention.norm.weight)
            yield f"{prefix}.norm_cross.bias", whole(attention.norm.bias)
            prefix += ".cross_attention"
            yield f"{prefix}.in_proj_weight", whole(attention.project_in.weight)
            yield f"{prefix}.out_proj.weight", whole(attention.project_out.weight)
        yield "out_norm.alpha", whole(self.norm.scale_D, 1, 1, self.config.dim)
        yield "text_linear.weight", whole(self.text_head.weight)


def _transformer(config: TextToSpeechConfig) -> Transformer:
    geometry = Geometry(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        window=Window(config.context),
        rope_max_period=config.rope_max_period,
    )
    return gated_decoder(config.num_layers, config.ffn_dim, config.norm_eps, geometry)
