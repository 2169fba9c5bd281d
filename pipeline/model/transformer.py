"""The transformer of Mimi and of the language model: pre-norm layers over a window of positions.

The two differ in their norms, feed-forward and residual scales, which are passed to `Layer`.
Attention is causal, over the last `context` positions, with or without a KV cache.

B rows (slots), T new positions, C keys or ring entries, D width, G width of the feed-forward,
H heads, E head dimension, L layers, X queries and keys (and values).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.attention_backends import AttentionMask, attend
from nightscribe.model.kv_cache import KVCache, KVLengths, LayerKV, RingPositions
from nightscribe.model.triton_support import kernels, uses_kernels


class Frequencies(NamedTuple):
    """Radians per position of each pair of a head's dimensions, and a one on the same device."""

    radians: Tensor
    one: Tensor

    @classmethod
    def of(cls, head_dim: int, max_period: float, device: torch.device) -> "Frequencies":
        """By the formula of the reference."""
        pairs = torch.arange(head_dim // 2, device=device, dtype=torch.float32)
        radians = torch.exp(pairs * (-math.log(max_period) * 2 / head_dim))
        return cls(radians, radians.new_ones(()))


def rotary_embedding(positions_BT: Tensor, frequencies: Frequencies) -> Tensor:
    """Rotary embedding (RoPE) of some positions: BT11E/2 complex numbers, one per pair.

    Angles in fp32, as in the reference: at position 450,000 others would differ.
    """
    angles = positions_BT[:, :, None, None, None] * frequencies.radians
    if uses_kernels(angles):  # the same in one kernel; slower on a CPU
        return torch.polar(frequencies.one, angles)
    return torch.complex(angles.cos(), angles.sin())


def rotate(x_BTXHE: Tensor, rotations: Tensor) -> Tensor:
    """Rotate each pair (2j, 2j + 1) of a head's dimensions; in fp32, in place if x is fp32."""
    fp32_BTXHE = x_BTXHE.float()
    torch.view_as_complex(fp32_BTXHE.view(*fp32_BTXHE.shape[:-1], -1, 2)).mul_(rotations)
    return fp32_BTXHE.to(x_BTXHE.dtype)


@dataclass(frozen=True, slots=True)
class Window:
    """Which past positions a query sees.

    Queries of one block of `block` positions share their oldest key, the one `context - 1` before
    the block's end: what a ring of `context` keys leaves visible when it is written block by block.
    """

    context: int
    block: int = 1

    def visible_BTC(self, queries_BT: Tensor, keys_BC: Tensor) -> Tensor:
        queries_BT1, keys_B1C = queries_BT[:, :, None], keys_BC[:, None]
        block_ends_BT1 = queries_BT1 // self.block * self.block + self.block - 1
        oldest_BT1 = (block_ends_BT1 - self.context + 1).clamp_min(0)
        return (keys_B1C <= queries_BT1) & (keys_B1C >= oldest_BT1)


def ring_mask(
    ring: RingPositions,
    window: Window,
    num_heads: int,
    kv_lengths: KVLengths = None,
    backend: str | None = None,
) -> AttentionMask:
    """What queries at the ring's new positions see of it; nothing beyond `kv_lengths`."""
    longest = max(kv_lengths) if isinstance(kv_lengths, tuple) else kv_lengths
    return AttentionMask(
        lambda: window.visible_BTC(ring.positions_BT, ring.entry_positions_BC[:, :longest]),
        kv_lengths if isinstance(kv_lengths, tuple) else (),
        ring.positions_BT[:, -1].contiguous() if window.block == 1 else None,
        window.context,
        num_heads,
        backend,
    )


class SelfAttention(nn.Module):
    """Multi-head attention without biases."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project_in = nn.Linear(dim, 3 * dim, bias=False)
        self.project_out = nn.Linear(dim, dim, bias=False)

    def project(self, x_BTD: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, values, each BTHE."""
        qkv_BTXHE = self._project(x_BTD)
        queries, keys = rotate(qkv_BTXHE[:, :, :2], rotations).unbind(2)
        return queries, keys, qkv_BTXHE[:, :, 2]

    def project_into(
        self, x_BTD: Tensor, rotations: Tensor, cache: KVCache, layer: int, ring: RingPositions
    ) -> tuple[Tensor, LayerKV, LayerKV]:
        """Rotated queries BTHE, and the layer's ring with the rotated keys and the values."""
        if not uses_kernels(x_BTD):
            queries, keys, values = self.project(x_BTD, rotations)
            return queries, *cache.extend(layer, keys, values, ring)
        kv = cache.keys.layer(layer), cache.values.layer(layer)
        qkv_BTXHE = self._project(x_BTD)
        return kernels().rotate_append(qkv_BTXHE, rotations, ring.positions_BT, *kv), *kv

    def _project(self, x_BTD: Tensor) -> Tensor:
        return self.project_in(x_BTD).view(*x_BTD.shape[:2], 3, self.num_heads, -1)

    def attend(
        self, queries_BTHE: Tensor, keys: LayerKV, values: LayerKV, mask: AttentionMask
    ) -> Tensor:
        """Attention output, projected back to BTD."""
        output_BHTE = attend(queries_BTHE.transpose(1, 2), keys, values, mask)
        return self.project_out(output_BHTE.transpose(1, 2).flatten(2))


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 and returned in the dtype of its scale."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.scale_D = nn.Parameter(torch.ones(dim))

    def forward(self, x_BTD: Tensor) -> Tensor:
        scale_D = self.scale_D
        if x_BTD.device.type != "cpu" and x_BTD.dtype == scale_D.dtype:
            return _fused_rms_norm(x_BTD, scale_D, self.eps)
        normed_BTD = F.rms_norm(x_BTD.float(), scale_D.shape, scale_D.float(), self.eps)
        return normed_BTD.to(scale_D.dtype)


def _fused_rms_norm(x_BTD: Tensor, scale_D: Tensor, eps: float) -> Tensor:
    """Bit-identical, in one GPU kernel instead of four; slower on a CPU."""
    return F.rms_norm(x_BTD, scale_D.shape, scale_D, eps)


class GatedFeedForward(nn.Module):
    """silu(gate) * up, the two projections fused in one matrix."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.project_out = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_up = self.project_in(x_BTD)
        if uses_kernels(gate_up):
            return self.project_out(kernels().silu_mul(gate_up))
        gate_BTG, up_BTG = gate_up.chunk(2, dim=-1)
        return self.project_out(F.silu(gate_BTG) * up_BTG)


class FeedForward(nn.Module):
    """Two projections around an exact (erf) GELU."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(dim, hidden_dim, bias=False)
        self.project_out = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.project_out(F.gelu(self.project_in(x_BTD)))


class ResidualScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.factors_D = nn.Parameter(torch.full((dim,), 0.01))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD * self.factors_D


class Layer(nn.Module):
    """Attention and feed-forward, each with a norm before it and a residual around it."""

    def __init__(
        self,
        attention: SelfAttention,
        feed_forward: nn.Module,
        new_norm: Callable[[], nn.Module],
        new_scale: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention_scale = new_norm(), new_scale()
        self.attention = attention
        self.feed_forward_norm, self.feed_forward_scale = new_norm(), new_scale()
        self.feed_forward = feed_forward

    def add_feed_forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.feed_forward_scale(self.feed_forward(self.feed_forward_norm(x_BTD)))

    def add_branches(self, x_BTD: Tensor, attended_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The residual with the attention's output, and the feed-forward's, to be added to it."""
        x_BTD, normed_BTD = add_norm(
            x_BTD, self.attention_scale(attended_BTD), self.feed_forward_norm
        )
        return x_BTD, self.feed_forward_scale(self.feed_forward(normed_BTD))


def add_norm(x_BTD: Tensor, branch_BTD: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The sum of residual and branch, and its norm."""
    if isinstance(norm, RMSNorm) and uses_kernels(x_BTD):
        sum_BTD, normed_BTD = kernels().add_norm(x_BTD, branch_BTD, norm.scale_D, norm.eps)
        return sum_BTD, normed_BTD
    sum_BTD = x_BTD + branch_BTD
    return sum_BTD, norm(sum_BTD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Heads and positions of a transformer."""

    num_heads: int
    head_dim: int
    window: Window
    rope_max_period: float


class Transformer(nn.Module):
    """A stack of layers: over whole sequences without a KV cache, or continuing from one."""

    def __init__(self, layers: list[Layer], geometry: Geometry) -> None:
        super().__init__()
        self.layers = cast(list[Layer], nn.ModuleList(layers))
        self.geometry = geometry
        self.backend: str | None = None  # of attention to a ring, where it was measured
        self._frequencies: dict[torch.device, Frequencies] = {}

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Whole sequences from their beginning; differentiable."""
        positions_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None]
        rotations = self._rotations(positions_BT)
        visible_BTC = self.geometry.window.visible_BTC(positions_BT, positions_BT)
        mask = AttentionMask(lambda: visible_BTC)
        for layer in self.layers:
            queries, keys, values = layer.attention.project(layer.attention_norm(x_BTD), rotations)
            kv = LayerKV(keys.transpose(1, 2)), LayerKV(values.transpose(1, 2))
            attended = layer.attention.attend(queries, *kv, mask)
            x_BTD = layer.add_feed_forward(x_BTD + layer.attention_scale(attended))
        return x_BTD

    def extend(self, x_BTD: Tensor, cache: KVCache, kv_lengths: KVLengths = None) -> Tensor:
        """The next positions of every row; the cache is updated in place.

        `kv_lengths` bounds the positions of each row, these included: the ring beyond is not read.
        """
        assert x_BTD.shape[1] <= cache.capacity - self.geometry.window.context + 1
        ring = cache.advance(x_BTD.shape[1])
        rotations = self._rotations(ring.positions_BT)
        geometry = self.geometry
        mask = ring_mask(ring, geometry.window, geometry.num_heads, kv_lengths, self.backend)
        first, *following = [layer.attention_norm for layer in self.layers]
        normed_BTD = first(x_BTD)
        for index, layer in enumerate(self.layers):
            queries, keys, values = layer.attention.project_into(
                normed_BTD, rotations, cache, index, ring
            )
            attended = layer.attention.attend(queries, keys, values, mask)
            x_BTD, branch_BTD = layer.add_branches(x_BTD, attended)
            if index < len(following):
                x_BTD, normed_BTD = add_norm(x_BTD, branch_BTD, following[index])
        return x_BTD + branch_BTD

    def _rotations(self, positions_BT: Tensor) -> Tensor:
        device = positions_BT.device
        if device not in self._frequencies:
            self._frequencies[device] = Frequencies.of(
                self.geometry.head_dim, self.geometry.rope_max_period, device
            )
        return rotary_embedding(positions_BT, self._frequencies[device])

    def empty_cache(
        self, num_rows: int, max_positions_per_call: int, dtype: torch.dtype | None = None
    ) -> KVCache:
        """A ring that holds a full window of keys for each of a call's positions.

        Without a `dtype` keys and values keep the dtype they are computed in.
        """
        # The dtype of a norm, not of a projection: projections may be packed.
        weight = next(self.layers[0].attention_norm.parameters())
        capacity = self.geometry.window.context + max_positions_per_call - 1
        num_heads, head_dim = self.geometry.num_heads, self.geometry.head_dim
        shape_LBHCE = (len(self.layers), num_rows, num_heads, capacity, head_dim)
        return KVCache.empty(shape_LBHCE, weight.device, dtype or weight.dtype)


def gated_decoder(
    num_layers: int, ffn_dim: int, norm_eps: float, geometry: Geometry
) -> Transformer:
    """A decoder-only stack as the language models have it: RMS norms, gated feed-forwards."""
    dim = geometry.num_heads * geometry.head_dim
    layers = [
        Layer(
            SelfAttention(dim, geometry.num_heads),
            GatedFeedForward(dim, ffn_dim),
            partial(RMSNorm, dim, norm_eps),
            nn.Identity,
        )
        for _ in range(num_layers)
    ]
    return Transformer(layers, geometry)
