"""The one transformer of this project: pre-norm layers over a window of past positions.

Mimi and the language model differ in their norms, their feed-forward and their residual scales,
which are parts handed to `Layer`.

B rows (slots), T new positions, C key positions, D width, G width of the feed-forward.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.attention import Reach, RingCache, SelfAttention, Window, rotation
from nightscribe.model.attention_backends import Sight
from nightscribe.model.kv_cache import Entries


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 and handed on in the dtype of its scale."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.scale_D = nn.Parameter(torch.ones(dim))

    def forward(self, x_BTD: Tensor) -> Tensor:
        scale_D = self.scale_D
        if x_BTD.device.type != "cpu" and x_BTD.dtype == scale_D.dtype:
            return _norm_at_once(x_BTD, scale_D, self.eps)
        normed_BTD = F.rms_norm(x_BTD.float(), scale_D.shape, scale_D.float(), self.eps)
        return normed_BTD.to(scale_D.dtype)


def _norm_at_once(x_BTD: Tensor, scale_D: Tensor, eps: float) -> Tensor:
    """The same to the bit in one kernel of a GPU instead of four; a CPU is slower at it."""
    return F.rms_norm(x_BTD, scale_D.shape, scale_D, eps)


class GatedFeedForward(nn.Module):
    """silu(gate) * up, the two projections fused in one matrix."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.project_out = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_BTG, up_BTG = self.project_in(x_BTD).chunk(2, dim=-1)
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
    """A learnt factor per channel on a residual branch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.factors_D = nn.Parameter(torch.full((dim,), 0.01))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD * self.factors_D


class Layer(nn.Module):
    """Attention and feed-forward, each normed before and added to what it read."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What the transformer must know of its heads and positions."""

    num_heads: int
    head_dim: int
    window: Window
    rope_max_period: float


class Transformer(nn.Module):
    """A stack of layers; without a cache it hears whole sequences, with one it goes on from it."""

    def __init__(self, layers: list[Layer], geometry: Geometry) -> None:
        super().__init__()
        self.layers = cast(list[Layer], nn.ModuleList(layers))
        self.geometry = geometry

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hear whole sequences from their beginning; differentiable."""
        positions_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None]
        turns = rotation(positions_BT, self.geometry.head_dim, self.geometry.rope_max_period)
        sight = Sight(self.geometry.window.visible_BTC(positions_BT, positions_BT))
        for layer in self.layers:
            queries, keys, values = layer.attention.project(layer.attention_norm(x_BTD), turns)
            entries = Entries(keys.transpose(1, 2)), Entries(values.transpose(1, 2))
            heard = layer.attention.attend(queries, *entries, sight)
            x_BTD = x_BTD + layer.attention_scale(heard)
            x_BTD = layer.add_feed_forward(x_BTD)
        return x_BTD

    def extend(self, x_BTD: Tensor, cache: RingCache, reach: Reach = None) -> Tensor:
        """Hear the next positions of every row; the cache is updated in place.

        `reach` promises that no row has heard more positions than that, these included: the ring
        beyond it is then not read.
        """
        assert x_BTD.shape[1] <= cache.capacity - self.geometry.window.context + 1
        places = cache.advance(x_BTD.shape[1])
        turns = rotation(places.positions_BT, self.geometry.head_dim, self.geometry.rope_max_period)
        sight = places.sight(self.geometry.window, self.geometry.num_heads, reach)
        for index, layer in enumerate(self.layers):
            queries, keys, values = layer.attention.project(layer.attention_norm(x_BTD), turns)
            entries = cache.extend(index, keys, values, places)
            heard = layer.attention.attend(queries, *entries, sight)
            x_BTD = layer.add_feed_forward(x_BTD + layer.attention_scale(heard))
        return x_BTD

    def empty_cache(
        self, num_rows: int, max_positions_per_call: int, dtype: torch.dtype | None = None
    ) -> RingCache:
        """A ring that holds a full window of keys for each of a call's positions.

        Without a `dtype` they are kept as they come.
        """
        # Not a projection's: these may be packed.
        weight = next(self.layers[0].attention_norm.parameters())
        capacity = self.geometry.window.context + max_positions_per_call - 1
        num_heads, head_dim = self.geometry.num_heads, self.geometry.head_dim
        shape_LBHCE = (len(self.layers), num_rows, num_heads, capacity, head_dim)
        return RingCache.empty(shape_LBHCE, weight.device, dtype or weight.dtype)
