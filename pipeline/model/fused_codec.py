"""Mimi with fewer passes over memory and fewer kernels, for a GPU with Triton; for inference only.

The state of a stream stays in its slot: rings are read and written where they are. The results
differ from those of the plain Mimi by rounding alone.

R rows of a call, C channels, N columns, T transformer positions, D width, F frames, M = R x F,
K codebooks.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nightscribe.model import codec_kernels
from nightscribe.model.codec_state_kernels import join_past, put_pasts, take_pasts
from nightscribe.model.codec_transformer_kernels import (
    attend_slots,
    rotations_from,
    scaled_add_norm,
)
from nightscribe.model.mimi import FULL_SCALE, Mimi, ResidualCodebooks, exact_products
from nightscribe.model.mimi_state import MimiState, views_of
from nightscribe.model.seanet import CausalConv1d, Stage
from nightscribe.model.transformer import Frequencies, Transformer

MIN_WIDTH = 16  # of a product of blocks


def can_fuse(mimi: Mimi) -> bool:
    """Whether all parts are as wide as the kernels need."""
    is_wide = mimi.transformer.geometry.head_dim // 2 >= MIN_WIDTH
    return is_wide and all(map(_is_wide_enough, mimi.seanet.stages))


def _is_wide_enough(stage: Stage) -> bool:
    return len(stage.residuals) == 1 and all(
        part.narrow.conv.out_channels >= codec_kernels.MIN_BOTTLENECK
        and part.narrow.conv.dilation == (1,)
        for part in stage.residuals
    )


class FusedMimi:
    """The same as `Mimi.encode_slots`, with the weights of a Mimi."""

    def __init__(self, mimi: Mimi) -> None:
        self._mimi, seanet = mimi, mimi.seanet
        convolutions = (seanet.stem, *(stage.downsample for stage in seanet.stages))
        self._stages = [
            FusedStage(stage, before.conv.bias)
            for stage, before in zip(seanet.stages, convolutions, strict=False)
        ]
        self._transformer = FusedTransformer(mimi.transformer, seanet.head.conv.bias)

    @torch.no_grad()
    def encode_slots(
        self,
        samples_RN: Tensor,
        state: MimiState,
        sources_R: Tensor,
        targets_R: Tensor,
        fresh_R: Tensor,
    ) -> Tensor:
        """Codes RFK of the next frames, of at most a piece."""
        assert samples_RN.shape[1] <= state.piece_samples
        mimi, positions_B = self._mimi, state.cache.next_positions_B
        pasts_RF, starts_R = take_pasts(state.pasts_BF, positions_B, sources_R, fresh_R)
        new_RF = torch.empty_like(pasts_RF)
        views = views_of(pasts_RF, state.past_shapes), views_of(new_RF, state.past_shapes)
        pasts = list(zip(*views, strict=True))
        x_RDT = self._seanet(samples_RN[:, None], pasts)
        x_RTD = self._transformer.extend(x_RDT.mT, state, (sources_R, targets_R, starts_R))
        padded_RDT = join_past(x_RTD.mT, None, *pasts[-1], fresh_R, 1.0, False)
        put_pasts(state.pasts_BF, positions_B, targets_R, new_RF, starts_R, x_RTD.shape[1])
        return self._quantize(mimi.downsample.conv(padded_RDT).mT)

    def _seanet(self, samples_R1N: Tensor, pasts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The output of SEANet, without the bias of its last convolution."""
        stem, head = self._mimi.seanet.stem, self._mimi.seanet.head
        padded_R1N = join_past(samples_R1N, None, *pasts[0], None, 1 / FULL_SCALE, False)
        x_RCN = _without_bias(stem, padded_R1N)
        for index, stage in enumerate(self._stages):
            # Of a block's second convolution, which has none, the past is skipped.
            x_RCN = stage(x_RCN, pasts[1 + 3 * index], pasts[3 + 3 * index])
        bias_C = self._mimi.seanet.stages[-1].downsample.conv.bias
        return _without_bias(head, join_past(x_RCN, bias_C, *pasts[-2], None, 1.0, True))

    def _quantize(self, latents_RFD: Tensor) -> Tensor:
        books = self._mimi.quantizer.semantic, self._mimi.quantizer.acoustic
        num_rows, num_frames, _ = latents_RFD.shape
        num_codebooks = sum(len(own.codebooks_KVW) for own in books)
        shape_KM = num_codebooks, num_rows * num_frames
        codes_KM = latents_RFD.new_empty(shape_KM, dtype=torch.int64)
        with exact_products(latents_RFD.device):
            _take_codes(books[0], latents_RFD, codes_KM[:1])
            _take_codes(books[1], latents_RFD, codes_KM[1:])
        return codes_KM.T.unflatten(0, (num_rows, num_frames))


class FusedStage:
    """A residual block in one kernel, and the convolution after it without its bias."""

    def __init__(self, stage: Stage, bias_C: Any) -> None:
        """`bias_C` is that of the convolution before."""
        (block,) = stage.residuals
        self._downsample, self._bias_C = stage.downsample, bias_C
        narrow, widen = block.narrow.conv, block.widen.conv
        self._weights = (
            narrow.weight.permute(2, 0, 1).contiguous(),  # taps, outputs, inputs
            narrow.bias,
            widen.weight[..., 0].contiguous(),
            widen.bias,
        )

    def __call__(
        self, x_RCN: Tensor, pasts: tuple[Tensor, Tensor], next_pasts: tuple[Tensor, Tensor]
    ) -> Tensor:
        padded_RCN = codec_kernels.residual_block(
            x_RCN.contiguous(),
            self._bias_C,
            pasts[0],
            *self._weights,
            next_pasts[0],
            pasts[1],
            next_pasts[1],
            torch.backends.cudnn.allow_tf32,
        )
        return _without_bias(self._downsample, padded_RCN)


class FusedTransformer:
    """Mimi's transformer over slots: eight kernels a layer."""

    def __init__(self, transformer: Transformer, bias_D: Any) -> None:
        """`bias_D` is still to be added to the input."""
        self._layers: list[Any] = list(transformer.layers)
        self._geometry, self._bias_D = transformer.geometry, bias_D
        radians, _ = Frequencies.of(
            self._geometry.head_dim, self._geometry.rope_max_period, bias_D.device
        )
        self._frequencies_J = radians

    def extend(self, x_RTD: Tensor, state: MimiState, rows: tuple[Tensor, ...]) -> Tensor:
        """The next positions of rows with these sources, targets and next positions."""
        rows = rotations_from(rows[2], self._frequencies_J, x_RTD.shape[1]), *rows
        first = self._layers[0].attention_norm
        norm = first.weight, first.bias, first.eps
        x_RTD, normed_RTD = scaled_add_norm(x_RTD, self._bias_D, None, None, *norm)
        following = [layer.attention_norm for layer in self._layers[1:]]
        for index, layer in enumerate(self._layers):
            attended_RTD = self._attend(normed_RTD, index, state, rows)
            x_RTD, normed_RTD = _add_norm(
                x_RTD, attended_RTD, layer.attention_scale, layer.feed_forward_norm
            )
            branch_RTD = layer.feed_forward(normed_RTD)
            # The norm after the last layer is not used; its sum is.
            next_norm = following[index] if index < len(following) else first
            x_RTD, normed_RTD = _add_norm(x_RTD, branch_RTD, layer.feed_forward_scale, next_norm)
        return x_RTD

    def _attend(
        self, normed_RTD: Tensor, index: int, state: MimiState, rows: tuple[Tensor, ...]
    ) -> Tensor:
        attention, window = self._layers[index].attention, self._geometry.window
        qkv_RTXHE = attention.project_in(normed_RTD).unflatten(2, (3, attention.num_heads, -1))
        rotations_RT2J, *slots = rows
        output_RTHE = attend_slots(
            qkv_RTXHE,
            rotations_RT2J,
            state.cache.keys.layer(index).data_BHCE,
            state.cache.values.layer(index).data_BHCE,
            *slots,
            window.context,
            window.block,
            torch.get_float32_matmul_precision() != "highest",
        )
        return attention.project_out(output_RTHE.flatten(2))


def _add_norm(x_RTD: Tensor, branch_RTD: Tensor, scale: Any, norm: Any) -> tuple[Tensor, Tensor]:
    return scaled_add_norm(
        x_RTD, None, branch_RTD, scale.factors_D, norm.weight, norm.bias, norm.eps
    )


def _take_codes(books: ResidualCodebooks, latents_RFD: Tensor, codes_KM: Tensor) -> None:
    residual_MW = books.project_in(latents_RFD).flatten(0, 1)
    for level, codebook_VW in enumerate(books.codebooks_KVW):
        scores_MV = torch.addmm(books.half_norms_KV[level], residual_MW, codebook_VW.T, beta=-1)
        codec_kernels.take_nearest(scores_MV, codebook_VW, residual_MW, codes_KM[level])


def _without_bias(convolution: CausalConv1d, padded_RCN: Tensor) -> Tensor:
    conv = convolution.conv
    return F.conv1d(padded_RCN, conv.weight, None, conv.stride, 0, conv.dilation)
