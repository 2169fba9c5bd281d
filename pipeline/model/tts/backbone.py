"""The backbone: codes and text of the last step to logits of the next word and a depth input.

A decoder-only transformer as in speech to text. Between attention and feed-forward, models with
voices attend to a cross-attention source.

R rows, K codebooks, D width, L layers, X sources, M rows of a source, N = X x M, C positions of a
source, H heads, E head dimension, V text ids that are predicted.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.kv_cache import KVCache, KVLengths
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
from nightscribe.model.tts.voice_sources import SourceKV, Sources

CROSS_NORM_EPS = 1e-5


class CrossAttention(nn.Module):
    """Attention of every row to its source, without positions or a mask."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim, CROSS_NORM_EPS)
        self.project_in = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.project_out = nn.Linear(dim, dim, bias=False)

    def source(self, source_CD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values HCE, computed once per source."""
        dim = source_CD.shape[-1]
        kv_CX = source_CD @ self.project_in.weight[dim:].T
        keys_HCE, values_HCE = (
            part.view(len(source_CD), self.num_heads, -1).transpose(0, 1)
            for part in kv_CX.chunk(2, dim=-1)
        )
        return keys_HCE, values_HCE

    def forward(self, x_RD: Tensor, sources: Sources, layer: int) -> Tensor:
        """What every row attends to; all rows of a source are multiplied together."""
        dim, num_sources = x_RD.shape[-1], sources.keys_LXHCE.shape[1]
        queries_RD = self.norm(x_RD) @ self.project_in.weight[:dim].T
        queries_ND = queries_RD.index_select(0, sources.rows_N)
        shape = (num_sources, sources.rows_per_source, self.num_heads, -1)
        queries_XHME = queries_ND.view(shape).transpose(1, 2)
        kv = sources.keys_LXHCE[layer], sources.values_LXHCE[layer]
        output_XHME = _attend(queries_XHME, *kv, sources.hidden_XC)
        output_ND = output_XHME.transpose(1, 2).reshape(-1, dim)
        return self.project_out(output_ND.index_select(0, sources.places_R))


def _attend(
    queries_XHME: Tensor, keys_XHCE: Tensor, values_XHCE: Tensor, hidden_XC: Tensor | None
) -> Tensor:
    if queries_XHME.is_cuda:
        visible = None if hidden_XC is None else ~hidden_XC[:, None, None]
        return F.scaled_dot_product_attention(queries_XHME, keys_XHCE, values_XHCE, visible)
    # Plain products: on a CPU, torch's own attention is slower for a few queries.
    scores_XHMC = queries_XHME @ keys_XHCE.mT * queries_XHME.shape[-1] ** -0.5
    if hidden_XC is not None:
        scores_XHMC.masked_fill_(hidden_XC[:, None, None], -torch.inf)
    return scores_XHMC.softmax(dim=-1) @ values_XHCE


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

    def source(self, source_CD: Tensor) -> SourceKV:
        """Keys and values of a cross-attention source in every layer."""
        pairs = [attention.source(source_CD) for attention in self.cross_attentions]
        keys, values = zip(*pairs, strict=True)
        return torch.stack(keys), torch.stack(values)

    def embed(self, codes_RK: Tensor, text_R: Tensor, condition_RD: Tensor) -> Tensor:
        """The input of a step; negative ids add nothing."""
        codebooks = torch.arange(codes_RK.shape[1], device=codes_RK.device)
        starts_K = codebooks * self.rows_per_codebook
        x_RD = summed_rows(self.audio_table.weight, starts_K, codes_RK)
        return x_RD + self.text_embedding(text_R) + condition_RD.to(x_RD.dtype)

    def extend(
        self,
        x_RD: Tensor,
        cache: KVCache,
        sources: Sources | None,
        kv_lengths: KVLengths = None,
    ) -> Tensor:
        """One step of every row; the normed output, which the depth transformer reads too.

        Without sources nothing is attended to across: no row has a text.
        """
        transformer = self.transformer
        x_R1D, ring = x_RD[:, None], cache.advance(1)
        rotations = transformer._rotations(ring.positions_BT)
        geometry, backend = transformer.geometry, transformer.backend
        mask = ring_mask(ring, geometry.window, geometry.num_heads, kv_lengths, backend)
        for index, layer in enumerate(transformer.layers):
            normed_R1D = layer.attention_norm(x_R1D)
            projected = layer.attention.project_into(normed_R1D, rotations, cache, index, ring)
            x_R1D = x_R1D + layer.attention.attend(*projected, mask)
            x_R1D = layer.add_feed_forward(self._cross(index, x_R1D, sources))
        return self.norm(x_R1D[:, 0])

    def _cross(self, index: int, x_R1D: Tensor, sources: Sources | None) -> Tensor:
        if sources is None:
            return x_R1D
        return x_R1D + self.cross_attentions[index](x_R1D[:, 0], sources, index)[:, None]

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
