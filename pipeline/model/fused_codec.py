"""Mimi with fewer passes over memory, for a GPU with Triton; for inference only.

`fuse` replaces parts of a Mimi as `pack` does on a CPU. The results differ from those of the plain
parts by rounding alone.

B rows, C channels, I and O channels, N columns.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model import codec_kernels
from nightscribe.model.mimi import Mimi
from nightscribe.model.native_tensors import NativeTensor
from nightscribe.model.seanet import CausalConv1d, Pasts, SEANet, Stage


def fuse(mimi: Mimi) -> None:
    """Replace what kernels of our own do in fewer passes; parts too narrow for them stay."""
    if all(_is_wide_enough(stage) for stage in mimi.seanet.stages):
        mimi.seanet = FusedSEANet(mimi.seanet)
    for codebooks in (mimi.quantizer.semantic, mimi.quantizer.acoustic):
        codebooks.take_nearest = codec_kernels.take_nearest


def _is_wide_enough(stage: Stage) -> bool:
    return len(stage.residuals) == 1 and all(
        part.narrow.conv.out_channels >= codec_kernels.MIN_BOTTLENECK
        and part.narrow.conv.dilation == (1,)
        for part in stage.residuals
    )


class FusedStage(nn.Module):
    """A residual block in one kernel, and the convolution after it without its bias."""

    def __init__(self, stage: Stage, bias_C: Tensor) -> None:
        """`bias_C` is that of the convolution before."""
        super().__init__()
        (block,) = stage.residuals
        self.downsample = stage.downsample
        self.bias_C = bias_C
        self.narrow_KHC = block.narrow.conv.weight.permute(2, 0, 1).contiguous()
        self.narrow_bias_H = block.narrow.conv.bias
        self.widen_CH = block.widen.conv.weight[..., 0].contiguous()
        self.widen_bias_C = block.widen.conv.bias

    def forward(self, x_BCN: Tensor, pasts: Iterator[Tensor]) -> Tensor:
        past_BCP, _, next_past_BCP = next(pasts), next(pasts), next(pasts)
        padded_BCN, new_past_BCP = codec_kernels.residual_block(
            x_BCN.contiguous(),
            self.bias_C,
            past_BCP,
            self.narrow_KHC,
            self.narrow_bias_H,
            self.widen_CH,
            self.widen_bias_C,
            next_past_BCP,
            torch.backends.cudnn.allow_tf32,
        )
        past_BCP.copy_(new_past_BCP)
        next_past_BCP.copy_(padded_BCN[..., padded_BCN.shape[-1] - next_past_BCP.shape[-1] :])
        return _without_bias(self.downsample, padded_BCN)


class FusedSEANet(nn.Module):
    """SEANet whose stages are fused; continues streams only."""

    def __init__(self, plain: SEANet) -> None:
        super().__init__()
        self.plain = plain
        convolutions = (plain.stem, *(stage.downsample for stage in plain.stages))
        biases: list[Any] = [convolution.conv.bias for convolution in convolutions]
        self.stages = nn.ModuleList(map(FusedStage, plain.stages, biases[:-1]))
        self.last_bias_C = biases[-1]

    def forward(self, samples_BN: Tensor, pasts: Pasts) -> Tensor:
        next_pasts = iter(pasts)
        stem, head = self.plain.stem, self.plain.head
        x_BCN = _without_bias(stem, stem.padded(samples_BN[:, None], next(next_pasts)))
        for stage in self.stages:
            x_BCN = stage(x_BCN, next_pasts)
        x_BCN += self.last_bias_C[:, None]
        return head(x_BCN, next(next_pasts), activate=True)

    def silence(self, num_rows: int, device: torch.device) -> Pasts:
        return self.plain.silence(num_rows, device)

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        return self.plain.native_tensors(prefix)


def _without_bias(convolution: CausalConv1d, padded_BIN: Tensor) -> Tensor:
    conv = convolution.conv
    return F.conv1d(padded_BIN, conv.weight, None, conv.stride, 0, conv.dilation)
