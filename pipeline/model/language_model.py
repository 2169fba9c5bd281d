"""The decoder-only language model: codes of a frame and the last text token to the next token.

S slots, T positions, K codebooks, D width, V text tokens, H VAD heads, A classes of a VAD head.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.config import LanguageModelConfig
from nightscribe.model.kv_cache import KVCache, KVLengths
from nightscribe.model.native_tensors import NativeTensor, fill, whole, without_memory
from nightscribe.model.transformer import (
    Geometry,
    Layer,
    RMSNorm,
    Transformer,
    Window,
    gated_decoder,
)
from nightscribe.model.triton_support import kernels, uses_kernels
from nightscribe.model.weight_quantization import QuantizedLinear, quantize_linears


class Prediction(NamedTuple):
    """The prediction at each position: logits in fp32, and the VAD heads' probabilities."""

    logits_STV: Tensor
    vad_STHA: Tensor | None


class JoinedEmbedding(nn.Module):
    """The tables of all codebooks and of the text in one: a position's input is a sum of rows."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.rows_per_codebook = config.audio_card + 1
        self.first_text_row = config.num_codebooks * self.rows_per_codebook
        self.table = nn.Embedding(self.first_text_row + config.num_text_rows, config.dim)

    def rows(self, codes_STK: Tensor, text_ST: Tensor) -> Tensor:
        """Rows of the table: one per codebook, then the text's."""
        after_last = self.first_text_row + 1
        starts_R = torch.arange(0, after_last, self.rows_per_codebook, device=codes_STK.device)
        return torch.cat((codes_STK, text_ST[..., None]), dim=-1) + starts_R

    def add_at_once(self, codes_STK: Tensor, text_ST: Tensor) -> Tensor:
        """The sum in one kernel, rounded once."""
        if uses_kernels(self.table.weight):
            return self._add_in_kernel(codes_STK, text_ST, self.table.weight.dtype)
        rows = self.rows(codes_STK, text_ST)
        bags_NR = rows.flatten(0, 1)
        return F.embedding_bag(bags_NR, self.table.weight, mode="sum").unflatten(0, rows.shape[:2])

    def add_in_float32(self, codes_STK: Tensor, text_ST: Tensor) -> Tensor:
        """The sum in fp32, never rounded: for dtypes that it might overflow."""
        if uses_kernels(self.table.weight):
            return self._add_in_kernel(codes_STK, text_ST, torch.float32)
        return self.table(self.rows(codes_STK, text_ST)).sum(dim=-2, dtype=torch.float32)

    def _add_in_kernel(self, codes_STK: Tensor, text_ST: Tensor, dtype: torch.dtype) -> Tensor:
        table = self.table.weight
        return kernels().add_embeddings(table, codes_STK, text_ST, self.rows_per_codebook, dtype)

    def add_in_order(self, codes_STK: Tensor, text_ST: Tensor) -> Tensor:
        """The sum rounded at each addition, in the order of the reference: the text comes last."""
        first, *others = self.table(self.rows(codes_STK, text_ST)).unbind(dim=-2)
        for other in others:
            first = first + other
        return first

    def native_tensors(self) -> dict[str, NativeTensor]:
        *tables, text = self.table.weight.split(self._table_sizes())
        places = {f"emb.{index}.weight": whole(table) for index, table in enumerate(tables)}
        return places | {"text_emb.weight": whole(text)}

    def _table_sizes(self) -> list[int]:
        num_codebooks, num_rows = (
            self.first_text_row // self.rows_per_codebook,
            self.table.num_embeddings,
        )
        return [self.rows_per_codebook] * num_codebooks + [num_rows - self.first_text_row]


class LanguageModel(nn.Module):
    """Codes and the last text token of a position to the next text token."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = JoinedEmbedding(config)
        # In bf16 only `add_in_order` rounds as the reference does; this is faster and more precise.
        self.embed = self.embedding.add_at_once
        self.transformer = _transformer(config)
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.text_head = nn.Linear(config.dim, config.text_card, bias=False)
        vad_dim = config.num_vad_heads * config.vad_head_dim
        self.vad_heads = nn.Linear(config.dim, vad_dim, bias=False) if vad_dim else None

    @property
    def dtype(self) -> torch.dtype:
        """Of activations."""
        return next(self.transformer.layers[0].attention_norm.parameters()).dtype

    @classmethod
    def load(
        cls,
        config: LanguageModelConfig,
        tensors: Iterable[tuple[str, Tensor]],
        device: torch.device | str,
        dtype: torch.dtype,
        *,
        weight_format: str | None = None,
    ) -> Self:
        """Build from native tensors, leaving out codebooks past `config.num_codebooks`.

        With `weight_format` the matrices of the transformer are quantized: int8, int4 or float8.
        """
        with without_memory():
            model = cls(config).to(dtype)
        if dtype == torch.float16:
            model._widen()
        if weight_format is not None:
            quantize_linears(model.transformer, weight_format, device)
        model.to_empty(device=device)
        fill(model.native_tensors(), tensors, model._is_unused)
        return model.eval().requires_grad_(False)

    def _widen(self) -> None:
        """Keep in fp32 what would overflow fp16: the residual stream and the logits."""
        self.embed = self.embedding.add_in_float32
        for part in (self.norm, self.text_head, self.vad_heads):
            if part is not None:
                part.float()

    def forward(self, codes_STK: Tensor, text_ST: Tensor) -> Prediction:
        """Whole sequences from their first position; differentiable."""
        return self.predict(self.transformer(self.embed(codes_STK, text_ST)))

    @torch.no_grad()
    def extend(
        self,
        codes_STK: Tensor,
        text_ST: Tensor,
        cache: KVCache,
        fresh_S: Tensor | None = None,
        kv_lengths: KVLengths = None,
    ) -> Prediction:
        """The next positions of every slot; the cache is updated in place.

        Fresh slots begin a new stream, as do those whose next position in the cache is 0.
        `kv_lengths` as in `Transformer.extend`.
        """
        if fresh_S is not None:
            cache.reset(fresh_S)
        x_STD = self.embed(codes_STK, text_ST)
        return self.predict(self.transformer.extend(x_STD, cache, kv_lengths))

    def predict(self, x_STD: Tensor) -> Prediction:
        x_STD = self.norm(x_STD)
        logits_STV = self.text_head(x_STD).float()
        if self.vad_heads is None:
            return Prediction(logits_STV, None)
        heads = (self.config.num_vad_heads, self.config.vad_head_dim)
        vad_STHA = self.vad_heads(x_STD).unflatten(-1, heads).softmax(dim=-1, dtype=torch.float32)
        return Prediction(logits_STV, vad_STHA)

    def empty_cache(
        self, num_slots: int, max_positions_per_call: int = 1, dtype: torch.dtype | None = None
    ) -> KVCache:
        return self.transformer.empty_cache(num_slots, max_positions_per_call, dtype)

    def native_tensors(self) -> dict[str, NativeTensor]:
        """Where the tensors of a native checkpoint are in this module."""
        places = self.embedding.native_tensors()
        for index, layer in enumerate(self.transformer.layers):
            places |= native_layer(f"transformer.layers.{index}", layer)
        places["out_norm.alpha"] = whole(self.norm.scale_D, 1, 1, self.config.dim)
        places["text_linear.weight"] = whole(self.text_head.weight)
        if self.vad_heads is not None:
            heads = self.vad_heads.weight.split(self.config.vad_head_dim)
            places |= {f"extra_heads.{i}.weight": whole(head) for i, head in enumerate(heads)}
        return places

    def _is_unused(self, name: str) -> bool:
        table = re.fullmatch(r"emb\.(\d+)\.weight", name)
        return table is not None and int(table[1]) >= self.config.num_codebooks


def _transformer(config: LanguageModelConfig) -> Transformer:
    geometry = Geometry(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        window=Window(config.context),
        rope_max_period=config.rope_max_period,
    )
    return gated_decoder(config.num_layers, config.ffn_dim, config.norm_eps, geometry)


def native_layer(prefix: str, layer: Layer) -> dict[str, NativeTensor]:
    """Where the tensors of a layer of `gated_decoder` are."""
    named = layer.get_parameter

    def matrix(name: str) -> NativeTensor:
        linear = layer.get_submodule(name)
        if isinstance(linear, QuantizedLinear):
            return linear.native()
        return whole(named(f"{name}.weight"))

    norm_shape = (1, 1, len(named("attention_norm.scale_D")))
    return {
        f"{prefix}.self_attn.in_proj_weight": matrix("attention.project_in"),
        f"{prefix}.self_attn.out_proj.weight": matrix("attention.project_out"),
        f"{prefix}.gating.linear_in.weight": matrix("feed_forward.project_in"),
        f"{prefix}.gating.linear_out.weight": matrix("feed_forward.project_out"),
        f"{prefix}.norm1.alpha": whole(named("attention_norm.scale_D"), *norm_shape),
        f"{prefix}.norm2.alpha": whole(named("feed_forward_norm.scale_D"), *norm_shape),
    }
