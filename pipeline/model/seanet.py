"""SEANet: causal convolutions from a waveform to Mimi's 25 vectors a second.

The state of a convolution (its past columns) is an argument. Tensors are overwritten once they have
been read for the last time: on a CPU, allocating new ones of this size is slow.

B rows, I and O channels, N columns at the rate of the layer, P columns of the past, or of the
carry of a transposed convolution.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.config import MimiConfig
from nightscribe.model.native_tensors import NativeTensor, whole

# The past of each convolution, in the order in which audio passes through them.
Pasts = list[Tensor]


class CausalConv1d(nn.Module):
    """Each output column ends where its input columns end; before a stream there is silence."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride, dilation=dilation, bias=bias
        )
        self.in_channels = in_channels
        self.num_past = (kernel_size - 1) * dilation + 1 - stride

    def forward(
        self, x_BIN: Tensor, past_BIP: Tensor | None = None, *, activate: bool = False
    ) -> Tensor:
        """A whole number of strides: the beginning of a stream, or what follows `past_BIP`.

        With `activate` the input goes through an ELU first. The past is updated in place; it is
        what the convolution takes, after the ELU.
        """
        if past_BIP is None:
            x_BIN = F.elu(x_BIN) if activate else x_BIN
            return self.conv(F.pad(x_BIN, (self.num_past, 0)))
        if not self.num_past:
            return self.conv(F.elu_(x_BIN) if activate else x_BIN)
        return self.conv(self.padded(x_BIN, past_BIP, activate=activate))

    def padded(self, x_BIN: Tensor, past_BIP: Tensor, *, activate: bool = False) -> Tensor:
        """The past and what follows it; the past is updated."""
        padded_BIN = _padded(x_BIN, past_BIP, activate=activate)
        past_BIP.copy_(padded_BIN[..., padded_BIN.shape[-1] - self.num_past :])
        return padded_BIN

    @property
    def past_shape(self) -> tuple[int, int]:
        """Channels and columns of the past; at the beginning of a stream it is zero."""
        return self.in_channels, self.num_past

    def silence(self, num_rows: int, device: torch.device) -> Tensor:
        """The past at the beginning of a stream."""
        return torch.zeros(num_rows, *self.past_shape, device=device)


class CausalConvTranspose1d(nn.Module):
    """Upsampling: what reaches beyond the last input column is added to the next call's output."""

    def __init__(self, conv: nn.ConvTranspose1d) -> None:
        super().__init__()
        self.conv = conv
        self.num_carried = conv.kernel_size[0] - conv.stride[0]

    def forward(self, x_BIN: Tensor, carry_BOP: Tensor) -> Tensor:
        """The next columns; the carry is updated in place."""
        weight, groups = self.conv.weight, self.conv.groups
        stride = self.conv.stride[0]
        whole_BON = F.conv_transpose1d(x_BIN, weight, stride=stride, groups=groups)
        whole_BON[..., : self.num_carried] += carry_BOP
        end = stride * x_BIN.shape[-1]
        carry_BOP.copy_(whole_BON[..., end:])
        output_BON = whole_BON[..., :end]
        return output_BON if self.conv.bias is None else output_BON + self.conv.bias[:, None]

    def silence(self, num_rows: int, device: torch.device) -> Tensor:
        """The carry at the beginning of a stream."""
        channels = self.conv.out_channels
        return torch.zeros(num_rows, channels, self.num_carried, device=device)


def _padded(x_BIN: Tensor, past_BIP: Tensor, *, activate: bool) -> Tensor:
    """The past and what follows it, in the memory layout of `x_BIN`: channels first or last.

    The ELU writes into the joined tensor: a pass over memory less than to join them afterwards.
    """
    num_rows, num_channels, num_columns = x_BIN.shape
    num_past = past_BIP.shape[-1]
    is_channels_last = x_BIN.mT.is_contiguous() and not x_BIN.is_contiguous()
    if is_channels_last:
        padded_BIN = x_BIN.new_empty(num_rows, num_past + num_columns, num_channels).mT
    else:
        padded_BIN = x_BIN.new_empty(num_rows, num_channels, num_past + num_columns)
    padded_BIN[..., :num_past] = past_BIP
    following_BIN = padded_BIN[..., num_past:]
    if activate:
        torch.ops.aten.elu.out(x_BIN, out=following_BIN)
    else:
        following_BIN.copy_(x_BIN)
    return padded_BIN


class Residual(nn.Module):
    """Two convolutions with a bottleneck, added to their input."""

    def __init__(self, channels: int, config: MimiConfig, dilation: int) -> None:
        super().__init__()
        middle, kernel_size = channels // config.compress, config.residual_kernel_size
        self.narrow = CausalConv1d(channels, middle, kernel_size, dilation=dilation)
        self.widen = CausalConv1d(middle, channels, 1)

    def forward(self, x_BIN: Tensor, pasts: Iterator[Tensor | None]) -> Tensor:
        narrowed = self.narrow(x_BIN, next(pasts), activate=True)
        return self.widen(narrowed, next(pasts), activate=True).add_(x_BIN)


class Stage(nn.Module):
    """Residual blocks at one rate, then a convolution to the next, `ratio` times slower."""

    def __init__(self, channels: int, ratio: int, config: MimiConfig) -> None:
        super().__init__()
        dilations = (config.dilation_base**i for i in range(config.num_residual_layers))
        residuals = [Residual(channels, config, dilation) for dilation in dilations]
        self.residuals = cast(list[Residual], nn.ModuleList(residuals))
        self.downsample = CausalConv1d(channels, 2 * channels, 2 * ratio, stride=ratio)

    def forward(self, x_BIN: Tensor, pasts: Iterator[Tensor | None]) -> Tensor:
        for residual in self.residuals:
            x_BIN = residual(x_BIN, pasts)
        return self.downsample(x_BIN, next(pasts), activate=True)


class SEANet(nn.Module):
    """Waveform to one vector per hop, without norms."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        channels = config.num_filters
        self.stem = CausalConv1d(1, channels, config.kernel_size)
        stages = []
        for ratio in config.encoder_ratios:
            stages.append(Stage(channels, ratio, config))
            channels *= 2
        self.stages = cast(list[Stage], nn.ModuleList(stages))
        self.head = CausalConv1d(channels, config.seanet_dim, config.last_kernel_size)

    def forward(self, samples_BN: Tensor, pasts: Pasts | None = None) -> Tensor:
        """A whole number of hops; returns BON. The pasts are updated in place."""
        next_pasts: Iterator[Tensor | None] = repeat(None) if pasts is None else iter(pasts)
        x_BIN = self.stem(samples_BN[:, None], next(next_pasts))
        for stage in self.stages:
            x_BIN = stage(x_BIN, next_pasts)
        return self.head(x_BIN, next(next_pasts), activate=True)

    def past_shapes(self) -> list[tuple[int, int]]:
        return [conv.past_shape for _, conv in self._native_convolutions()]

    def native_tensors(self, prefix: str) -> Iterator[tuple[str, NativeTensor]]:
        for place, conv in self._native_convolutions():
            for name, parameter in conv.conv.named_parameters():
                yield f"{prefix}.{place}.conv.conv.{name}", whole(parameter)

    def _native_convolutions(self) -> Iterator[tuple[str, CausalConv1d]]:
        """Every convolution and its index in the native list, where activations count too."""
        yield "0", self.stem
        index = 1
        for stage in self.stages:
            for residual in stage.residuals:
                yield f"{index}.block.1", residual.narrow
                yield f"{index}.block.3", residual.widen
                index += 1
            yield f"{index + 1}", stage.downsample
            index += 2
        yield f"{index + 1}", self.head
