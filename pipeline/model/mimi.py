"""Mimi's encoder side: a waveform at 24 kHz to codes at 12.5 frames a second, always in fp32.

A convolutional encoder (SEANet), a transformer, and a split residual vector quantizer.

B rows, N samples, T transformer positions, F frames, D width, K codebooks, M = B x F,
V entries of a codebook, W width of a codebook's vectors.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from nightscribe.model.config import MimiConfig
from nightscribe.model.mimi_state import MimiState
from nightscribe.model.native_tensors import NativeTensor, fill, give_memory, whole, without_memory
from nightscribe.model.seanet import CausalConv1d, SEANet
from nightscribe.model.transformer import (
    FeedForward,
    Geometry,
    Layer,
    ResidualScale,
    SelfAttention,
    Transformer,
    Window,
)

FULL_SCALE = 32768.0  # of int16 samples
MIN_USAGE = 1e-5  # of a codebook entry; as in the training, against division by zero
# Tensors of the decoder side and marks of the training, which are not loaded.
_DECODER = re.compile(r"(decoder|decoder_transformer|upsample)\.|.*\.(output_proj\.|_initialized$)")


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Products of fp32 matrices as torch names it: "highest" is fp32, "high" may be TF32."""
    before = torch.get_float32_matmul_precision()
    if device.type != "cuda" or before == precision:
        yield
        return
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def exact_products(device: torch.device) -> AbstractContextManager[None]:
    """Without TF32: a rounded score would choose another code of the first books, too."""
    return products_in("highest", device)


class ResidualCodebooks(nn.Module):
    """Residual codebooks: each quantizes what the ones before it left over."""

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
        if self.codebooks_KVW.is_meta:
            return
        self.codebooks_KVW /= self.usage_KV.clamp_min(MIN_USAGE)[..., None]
        self.usage_KV.fill_(1)
        self.half_norms_KV.copy_(self.codebooks_KVW.square().sum(-1) / 2)

    def forward(self, latents_BFD: Tensor) -> Tensor:
        """The nearest entry of each codebook in turn: codes_BFK."""
        residual_MW = self.project_in(latents_BFD).flatten(0, 1)
        codes_KM = residual_MW.new_empty(
            len(self.codebooks_KVW), len(residual_MW), dtype=torch.int64
        )
        for level, codebook_VW in enumerate(self.codebooks_KVW):
            # The nearest entry e of x has the largest x.e - |e|^2 / 2.
            scores_MV = torch.addmm(self.half_norms_KV[level], residual_MW, codebook_VW.T, beta=-1)
            codes_KM[level] = scores_MV.argmax(dim=-1)
            residual_MW -= codebook_VW[codes_KM[level]]
        return codes_KM.T.unflatten(0, latents_BFD.shape[:2])

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
        with exact_products(latents_BFD.device):
            return torch.cat((self.semantic(latents_BFD), self.acoustic(latents_BFD)), dim=-1)

    def settle(self) -> None:
        self.semantic.settle()
        self.acoustic.settle()

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        yield from self.semantic.native_tensors(f"{prefix}.rvq_first")
        yield from self.acoustic.native_tensors(f"{prefix}.rvq_rest")


class Mimi(nn.Module):
    """Waveform to codes, in whole frames; a recording may be encoded in pieces of any length."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        self.seanet = SEANet(config)
        self.transformer = transformer_of(config)
        stride = config.positions_per_frame
        self.downsample = CausalConv1d(
            config.seanet_dim, config.dim, 2 * stride, stride=stride, bias=False
        )
        self.quantizer = SplitQuantizer(config)

    @classmethod
    def load(
        cls, config: MimiConfig, tensors: Iterable[tuple[str, Tensor]], device: torch.device | str
    ) -> Self:
        """Build from native tensors; codebooks past `config.num_codebooks` are left out."""
        with without_memory():
            mimi = cls(config)
        give_memory(mimi, device)
        fill(mimi.native_tensors(), tensors, mimi._is_unused)
        mimi.quantizer.settle()
        return mimi.eval().requires_grad_(False)

    def forward(self, samples_BN: Tensor) -> Tensor:
        """Latents before the quantizer of whole waveforms, BFD; differentiable."""
        positions_BDT = self.transformer(self.seanet(samples_BN).mT).mT
        return self.downsample(positions_BDT, self._before_first(positions_BDT).clone()).mT

    @torch.no_grad()
    def encode(self, samples_BN: Tensor, state: MimiState, fresh_B: Tensor) -> Tensor:
        """Codes BFK of the next whole frames of every row; fresh rows begin a new stream."""
        pieces_BFD = self._latents(samples_BN, state, fresh_B)
        return torch.cat([self.quantizer(latents_BFD) for latents_BFD in pieces_BFD], dim=1)

    def encode_slots(
        self,
        samples_RN: Tensor,
        state: MimiState,
        sources_R: Tensor,
        targets_R: Tensor,
        fresh_R: Tensor,
    ) -> Tensor:
        """Codes RFK of the next frames, 16 bits a sample, of streams whose state is in some slots.

        What a stream has become is written to its target: its own slot, or one that nobody reads.
        """
        group, num_samples = state.rows(sources_R), samples_RN.shape[1]
        codes_RFK = self.encode(samples_RN.float() / FULL_SCALE, group, fresh_R > 0)
        num_frames = num_samples // self.config.frame_samples
        state.put_new(targets_R, group, num_frames * self.config.positions_per_frame)
        return codes_RFK

    def initial_state(self, num_rows: int, max_frames_per_piece: int = 25) -> MimiState:
        """The state of rows at the beginning of a stream.

        Longer calls are split into pieces of that many frames; results do not depend on it.
        """
        max_positions = max_frames_per_piece * self.config.positions_per_frame
        shapes = *self.seanet.past_shapes(), self.downsample.past_shape
        num_kept = sum(channels * columns for channels, columns in shapes)
        return MimiState(
            torch.zeros(num_rows, num_kept, device=self.device),
            shapes,
            self.transformer.empty_cache(num_rows, max_positions),
            max_frames_per_piece * self.config.frame_samples,
        )

    @property
    def device(self) -> torch.device:
        return self.quantizer.semantic.codebooks_KVW.device

    def _latents(self, samples_BN: Tensor, state: MimiState, fresh_B: Tensor) -> Iterator[Tensor]:
        state.reset(fresh_B)
        *seanet_pasts, downsample_past_BDP = state.pasts
        for piece_BN in samples_BN.split(state.piece_samples, dim=-1):
            positions_BDT = self.seanet(piece_BN, seanet_pasts)
            positions_BDT = self.transformer.extend(positions_BDT.mT, state.cache).mT
            first_BDP = self._before_first(positions_BDT)
            past_BDP = torch.where(fresh_B[:, None, None], first_BDP, downsample_past_BDP)
            downsample_past_BDP.copy_(past_BDP)
            yield self.downsample(positions_BDT, downsample_past_BDP).mT
            fresh_B = torch.zeros_like(fresh_B)

    def _before_first(self, positions_BDT: Tensor) -> Tensor:
        """The past of the downsampling before a stream: its first column, repeated."""
        return positions_BDT[..., :1].expand(-1, -1, self.downsample.num_past)

    def native_tensors(self) -> dict[str, NativeTensor]:
        """Where the tensors of a native checkpoint are in this module."""
        places = dict(self.seanet.native_tensors("encoder.model"))
        for index, layer in enumerate(self.transformer.layers):
            places |= native_layer(f"encoder_transformer.transformer.layers.{index}", layer)
        places["downsample.conv.conv.conv.weight"] = whole(self.downsample.conv.weight)
        return places | dict(self.quantizer.native_tensors("quantizer"))

    def _is_unused(self, name: str) -> bool:
        surplus = re.match(r"quantizer\.rvq_rest\.vq\.layers\.(\d+)\.", name)
        beyond = surplus is not None and int(surplus[1]) >= self.config.num_codebooks - 1
        return beyond or _DECODER.match(name) is not None


def transformer_of(config: MimiConfig) -> Transformer:
    layers = [
        Layer(
            SelfAttention(config.dim, config.num_heads),
            FeedForward(config.dim, config.ffn_dim),
            partial(nn.LayerNorm, config.dim, config.norm_eps),
            partial(ResidualScale, config.dim),
        )
        for _ in range(config.num_layers)
    ]
    geometry = Geometry(
        num_heads=config.num_heads,
        head_dim=config.dim // config.num_heads,
        # The reference works frame by frame and writes a frame's positions at once.
        window=Window(config.context, block=config.positions_per_frame),
        rope_max_period=config.rope_max_period,
    )
    return Transformer(layers, geometry)


def native_layer(prefix: str, layer: Layer) -> dict[str, NativeTensor]:
    named = layer.get_parameter
    return {
        f"{prefix}.self_attn.in_proj_weight": whole(named("attention.project_in.weight")),
        f"{prefix}.self_attn.out_proj.weight": whole(named("attention.project_out.weight")),
        f"{prefix}.norm1.weight": whole(named("attention_norm.weight")),
        f"{prefix}.norm1.bias": whole(named("attention_norm.bias")),
        f"{prefix}.norm2.weight": whole(named("feed_forward_norm.weight")),
        f"{prefix}.norm2.bias": whole(named("feed_forward_norm.bias")),
        f"{prefix}.linear1.weight": whole(named("feed_forward.project_in.weight")),
        f"{prefix}.linear2.weight": whole(named("feed_forward.project_out.weight")),
        f"{prefix}.layer_scale_1.scale": whole(named("attention_scale.factors_D")),
        f"{prefix}.layer_scale_2.scale": whole(named("feed_forward_scale.factors_D")),
    }
