"""Mimi's decoder side: codes at 12.5 frames a second to a waveform at 24 kHz, always in fp32.

The encoder reversed: codewords summed, upsampling, a transformer, transposed convolutions (SEANet).

B rows, F frames, K codebooks, T transformer positions, D width, N samples, I and O channels,
P columns that are carried to the next call.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.config import MimiConfig
from nightscribe.model.kv_cache import KVCache
from nightscribe.model.mimi import MIN_USAGE, native_layer, transformer_of
from nightscribe.model.native_tensors import NativeTensor, fill, give_memory, whole, without_memory
from nightscribe.model.seanet import CausalConv1d, CausalConvTranspose1d, Residual

_UNUSED = re.compile(r"(encoder|encoder_transformer|downsample)\.|.*(input_proj\.|_initialized$)")


class Codewords(nn.Module):
    """The vectors of some codebooks, and their projection to the width of the codec."""

    codewords_KVW: Tensor
    usage_KV: Tensor

    def __init__(self, num_codebooks: int, config: MimiConfig) -> None:
        super().__init__()
        size, width = config.codebook_size, config.codebook_dim
        self.register_buffer("codewords_KVW", torch.zeros(num_codebooks, size, width))
        self.register_buffer("usage_KV", torch.ones(num_codebooks, size))
        self.project_out = nn.Linear(width, config.dim, bias=False)

    def settle(self) -> None:
        """Fold the usage counts of a checkpoint into the codewords."""
        self.codewords_KVW /= self.usage_KV.clamp_min(MIN_USAGE)[..., None]
        self.usage_KV.fill_(1)

    def forward(self, codes_BFK: Tensor) -> Tensor:
        """The projected sum of the codewords of the first codebooks, as many as there are codes."""
        codebooks = torch.arange(codes_BFK.shape[-1], device=codes_BFK.device)
        return self.project_out(self.codewords_KVW[codebooks, codes_BFK].sum(dim=2))

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        weight = self.project_out.weight
        yield f"{prefix}.output_proj.weight", whole(weight, *weight.shape, 1)
        for level in range(len(self.codewords_KVW)):
            codebook = f"{prefix}.vq.layers.{level}._codebook"
            yield f"{codebook}.embedding_sum", whole(self.codewords_KVW[level])
            yield f"{codebook}.cluster_usage", whole(self.usage_KV[level])


class UpsamplingStage(nn.Module):
    """A convolution to a rate `ratio` times faster, then residual blocks."""

    def __init__(self, channels: int, ratio: int, config: MimiConfig) -> None:
        super().__init__()
        conv = nn.ConvTranspose1d(channels, channels // 2, 2 * ratio, ratio)
        self.upsample = CausalConvTranspose1d(conv)
        dilations = (config.dilation_base**i for i in range(config.num_residual_layers))
        residuals = [Residual(channels // 2, config, dilation) for dilation in dilations]
        self.residuals = cast(list[Residual], nn.ModuleList(residuals))

    def forward(self, x_BIN: Tensor, pasts: Iterator[Tensor]) -> Tensor:
        x_BIN = self.upsample(F.elu_(x_BIN), next(pasts))
        for residual in self.residuals:
            x_BIN = residual(x_BIN, pasts)
        return x_BIN


class SEANetDecoder(nn.Module):
    """One vector per hop to a waveform, without norms."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        channels = config.num_filters * 2 ** len(config.encoder_ratios)
        self.stem = CausalConv1d(config.seanet_dim, channels, config.kernel_size)
        stages = []
        for ratio in reversed(config.encoder_ratios):
            stages.append(UpsamplingStage(channels, ratio, config))
            channels //= 2
        self.stages = cast(list[UpsamplingStage], nn.ModuleList(stages))
        self.head = CausalConv1d(channels, 1, config.last_kernel_size)

    def forward(self, x_BDT: Tensor, pasts: list[Tensor]) -> Tensor:
        next_pasts = iter(pasts)
        x_BIN = self.stem(x_BDT, next(next_pasts))
        for stage in self.stages:
            x_BIN = stage(x_BIN, next_pasts)
        return self.head(x_BIN, next(next_pasts), activate=True)[:, 0]

    def silence(self, num_rows: int, device: torch.device) -> list[Tensor]:
        return [conv.silence(num_rows, device) for _, conv in self._native_convolutions()]

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        for place, conv in self._native_convolutions():
            kind = "conv" if isinstance(conv, CausalConv1d) else "convtr"
            for name, parameter in conv.conv.named_parameters():
                yield f"{prefix}.{place}.{kind}.{kind}.{name}", whole(parameter)

    def _native_convolutions(self) -> Iterator[tuple[str, CausalConv1d | CausalConvTranspose1d]]:
        """Every convolution and its index in the native list, where activations count too."""
        yield "0", self.stem
        index = 1
        for stage in self.stages:
            yield f"{index + 1}", stage.upsample
            index += 2
            for residual in stage.residuals:
                yield f"{index}.block.1", residual.narrow
                yield f"{index}.block.3", residual.widen
                index += 1
        yield f"{index + 1}", self.head


@dataclass(slots=True)
class DecoderState:
    """State of every row between two calls; updated in place."""

    upsampling_carry_BDP: Tensor
    cache: KVCache
    seanet_pasts: list[Tensor]
    frames_per_piece: int

    def reset(self, fresh_B: Tensor) -> None:
        """Begin a new stream in some rows."""
        self.cache.reset(fresh_B)
        for past_BIP in self._pasts():
            past_BIP.masked_fill_(fresh_B[:, None, None], 0)

    def row(self, row: int) -> Self:
        """One row, in the same memory."""
        pasts = [past[row : row + 1] for past in self._pasts()]
        return self._with(pasts, self.cache.row(row))

    def rows(self, rows: Tensor) -> Self:
        """A copy of some rows."""
        pasts = [past.index_select(0, rows) for past in self._pasts()]
        return self._with(pasts, self.cache.rows(rows))

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows by those of another state, in its order."""
        for mine, theirs in zip(self._pasts(), other._pasts(), strict=True):
            mine.index_copy_(0, rows, theirs)
        self.cache.put(rows, other.cache)

    def _pasts(self) -> list[Tensor]:
        return [self.upsampling_carry_BDP, *self.seanet_pasts]

    def _with(self, pasts: list[Tensor], cache: KVCache) -> Self:
        return type(self)(pasts[0], cache, pasts[1:], self.frames_per_piece)


class MimiDecoder(nn.Module):
    """Codes to waveform, in whole frames; a stream may be decoded in pieces of any length."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        self.semantic = Codewords(1, config)
        self.acoustic = Codewords(config.num_codebooks - 1, config)
        stride, dim = config.positions_per_frame, config.dim
        self.upsample = CausalConvTranspose1d(
            nn.ConvTranspose1d(dim, dim, 2 * stride, stride, groups=dim, bias=False)
        )
        self.transformer = transformer_of(config)
        self.seanet = SEANetDecoder(config)

    @classmethod
    def load(
        cls, config: MimiConfig, tensors: Iterable[tuple[str, Tensor]], device: torch.device | str
    ) -> Self:
        """Build from native tensors; codebooks past `config.num_codebooks` are left out."""
        with without_memory():
            decoder = cls(config)
        give_memory(decoder, device)
        fill(decoder.native_tensors(), tensors, decoder._is_unused)
        decoder.semantic.settle()
        decoder.acoustic.settle()
        return decoder.eval().requires_grad_(False)

    @torch.no_grad()
    def decode(self, codes_BFK: Tensor, state: DecoderState) -> Tensor:
        """The samples BN of the next frames of every row, in [-1, 1] but not clipped.

        Fewer codes per frame than the codec has are decoded by the codebooks they belong to.
        """
        pieces = codes_BFK.split(state.frames_per_piece, dim=1)
        return torch.cat([self._decode(piece, state) for piece in pieces], dim=-1)

    @property
    def device(self) -> torch.device:
        return self.semantic.codewords_KVW.device

    def _decode(self, codes_BFK: Tensor, state: DecoderState) -> Tensor:
        latents_BFD = self.semantic(codes_BFK[..., :1]) + self.acoustic(codes_BFK[..., 1:])
        positions_BDT = self.upsample(latents_BFD.mT, state.upsampling_carry_BDP)
        positions_BDT = self.transformer.extend(positions_BDT.mT, state.cache).mT
        return self.seanet(positions_BDT, state.seanet_pasts)

    def initial_state(self, num_rows: int, frames_per_piece: int = 25) -> DecoderState:
        """The state of rows at the beginning of a stream; longer calls are split into pieces."""
        device = self.device
        max_positions = frames_per_piece * self.config.positions_per_frame
        return DecoderState(
            self.upsample.silence(num_rows, device),
            self.transformer.empty_cache(num_rows, max_positions),
            self.seanet.silence(num_rows, device),
            frames_per_piece,
        )

    def native_tensors(self) -> dict[str, NativeTensor]:
        """Where the tensors of a native checkpoint are in this module."""
        places = dict(self.semantic.native_tensors("quantizer.rvq_first"))
        places |= self.acoustic.native_tensors("quantizer.rvq_rest")
        places["upsample.convtr.convtr.convtr.weight"] = whole(self.upsample.conv.weight)
        for index, layer in enumerate(self.transformer.layers):
            places |= native_layer(f"decoder_transformer.transformer.layers.{index}", layer)
        return places | dict(self.seanet.native_tensors("decoder.model"))

    def _is_unused(self, name: str) -> bool:
        surplus = re.match(r"quantizer\.rvq_rest\.vq\.layers\.(\d+)\.", name)
        beyond = surplus is not None and int(surplus[1]) >= self.config.num_codebooks - 1
        return beyond or _UNUSED.match(name) is not None
