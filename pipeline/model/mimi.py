"""Mimi's encoder side: a waveform at 24 kHz to codes at 12.5 frames a second, always in fp32.

B rows, N samples, T transformer positions, F frames, D width, K codebooks.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from nightscribe.model.attention import RingCache, SelfAttention, Window
from nightscribe.model.config import MimiConfig
from nightscribe.model.convolution import CausalConv1d
from nightscribe.model.native import NativeTensor, fill, whole
from nightscribe.model.quantizer import SplitQuantizer
from nightscribe.model.seanet import Pasts, SEANet
from nightscribe.model.transformer import FeedForward, Geometry, Layer, ResidualScale, Transformer

# What a checkpoint holds for speaking, not for hearing.
_DECODER = re.compile(r"(decoder|decoder_transformer|upsample)\.|.*\.(output_proj\.|_initialized$)")


@dataclass(slots=True)
class MimiState:
    """What every row remembers between two calls; updated in place."""

    seanet_pasts: Pasts
    cache: RingCache
    downsample_past_BDP: Tensor
    piece_samples: int

    def rows(self, rows: Tensor) -> Self:
        """A copy of some rows."""
        return type(self)(
            [past_BIP.index_select(0, rows) for past_BIP in self.seanet_pasts],
            self.cache.rows(rows),
            self.downsample_past_BDP.index_select(0, rows),
            self.piece_samples,
        )

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows by those of another state, in its order."""
        for past_BIP, other_BIP in zip(self.seanet_pasts, other.seanet_pasts, strict=True):
            past_BIP.index_copy_(0, rows, other_BIP)
        self.cache.put(rows, other.cache)
        self.downsample_past_BDP.index_copy_(0, rows, other.downsample_past_BDP)


class Mimi(nn.Module):
    """Waveform to codes, in whole frames; a recording may be heard in pieces of any length."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        self.seanet = SEANet(config)
        self.transformer = _transformer(config)
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
        with torch.device("meta"):
            mimi = cls(config)
        mimi.to_empty(device=device)
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

    def initial_state(self, num_rows: int, max_frames_per_piece: int = 25) -> MimiState:
        """What rows remember before they have heard anything.

        Longer calls are worked off in pieces of that many frames; results do not depend on it.
        """
        max_positions = max_frames_per_piece * self.config.positions_per_frame
        return MimiState(
            self.seanet.silence(num_rows, self.device),
            self.transformer.empty_cache(num_rows, max_positions),
            self.downsample.silence(num_rows, self.device),
            max_frames_per_piece * self.config.frame_samples,
        )

    @property
    def device(self) -> torch.device:
        return self.quantizer.semantic.codebooks_KVW.device

    def _latents(self, samples_BN: Tensor, state: MimiState, fresh_B: Tensor) -> Iterator[Tensor]:
        for past_BIP in state.seanet_pasts:
            past_BIP.masked_fill_(fresh_B[:, None, None], 0)
        state.cache.restart(fresh_B)
        for piece_BN in samples_BN.split(state.piece_samples, dim=-1):
            positions_BDT = self.seanet(piece_BN, state.seanet_pasts)
            positions_BDT = self.transformer.extend(positions_BDT.mT, state.cache).mT
            first_BDP = self._before_first(positions_BDT)
            past_BDP = torch.where(fresh_B[:, None, None], first_BDP, state.downsample_past_BDP)
            state.downsample_past_BDP.copy_(past_BDP)
            yield self.downsample(positions_BDT, state.downsample_past_BDP).mT
            fresh_B = torch.zeros_like(fresh_B)

    def _before_first(self, positions_BDT: Tensor) -> Tensor:
        """What the downsampling hears before a stream: its first column, over and over."""
        return positions_BDT[..., :1].expand(-1, -1, self.downsample.num_past)

    def native_tensors(self) -> dict[str, NativeTensor]:
        """Where the tensors of a native checkpoint stand in this module."""
        places = dict(self.seanet.native_tensors("encoder.model"))
        for index, layer in enumerate(self.transformer.layers):
            places |= _native_layer(f"encoder_transformer.transformer.layers.{index}", layer)
        places["downsample.conv.conv.conv.weight"] = whole(self.downsample.conv.weight)
        return places | dict(self.quantizer.native_tensors("quantizer"))

    def _is_unused(self, name: str) -> bool:
        surplus = re.match(r"quantizer\.rvq_rest\.vq\.layers\.(\d+)\.", name)
        beyond = surplus is not None and int(surplus[1]) >= self.config.num_codebooks - 1
        return beyond or _DECODER.match(name) is not None


def _transformer(config: MimiConfig) -> Transformer:
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
        # The reference hears frame by frame and writes a frame's positions at once.
        window=Window(config.context, block=config.positions_per_frame),
        rope_max_period=config.rope_max_period,
    )
    return Transformer(layers, geometry)


def _native_layer(prefix: str, layer: Layer) -> dict[str, NativeTensor]:
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
