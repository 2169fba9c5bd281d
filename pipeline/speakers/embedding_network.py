"""CAM++: a speaker embedding of log mel features (Wang et al. 2023, arXiv 2303.00332).

A small 2-D network over frequency and time, then densely connected TDNN layers, each of which is
gated by the mean of the whole input and of its surroundings (context-aware masking). Norms are
folded into the convolution before or after them when the weights are loaded. The dense layers hold
frames as rows and are products of matrices: these need no rearrangement, which convolutions of
some CPUs spend most of their time on.

B inputs, T frames, F mel bins, C channels, H frequency rows, D dimensions of the embedding.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPSILON = 1e-5
# Of the three dense blocks; how many layers each has is in the weights.
DILATIONS = (1, 2, 2)
CONTEXT_FRAMES = 100

Weights = Mapping[str, Tensor]


class CamPlusPlus:
    """Weights by the names of the published checkpoints, on the device that they are on."""

    def __init__(self, weights: Weights) -> None:
        self._stem = _FrequencyStem(weights)
        self._entry = _FoldedConvolution(
            weights, "xvector.tdnn.linear", "xvector.tdnn.nonlinear.batchnorm"
        )
        self._blocks = [
            _DenseBlock(weights, f"xvector.block{number}", f"xvector.transit{number}", dilation)
            for number, dilation in enumerate(DILATIONS, start=1)
        ]
        self._exit = _Norm(weights, "xvector.out_nonlinear.batchnorm")
        self._dense = _FoldedConvolution(
            weights, "xvector.dense.linear", "xvector.dense.nonlinear.batchnorm"
        )

    @property
    def num_dims(self) -> int:
        return len(self._dense.weight)

    def __call__(self, features_BTF: Tensor) -> Tensor:
        """One embedding for each row; every row has the same number of frames."""
        x_BCT = self._stem(features_BTF.transpose(1, 2))
        x_BTC = self._entry(x_BCT, stride=2, padding=2).relu_().transpose(1, 2)
        for block in self._blocks:
            x_BTC = block(x_BTC)
        x_BTC = self._exit(x_BTC).relu_()
        statistics_BC = torch.cat([x_BTC.mean(dim=1), x_BTC.std(dim=1)], dim=1)
        return self._dense(statistics_BC[:, :, None])[:, :, 0]


class _Norm:
    """Batch normalisation with the statistics of training: a factor and an offset per channel."""

    def __init__(self, weights: Weights, name: str) -> None:
        deviation_C = (weights[f"{name}.running_var"] + NORM_EPSILON).sqrt()
        scale_C, offset_C = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
        self.factor_C = (1 if scale_C is None else scale_C) / deviation_C
        shift_C = weights[f"{name}.running_mean"] * self.factor_C
        self.offset_C = (0 if offset_C is None else offset_C) - shift_C

    def __call__(self, x_BTC: Tensor) -> Tensor:
        return torch.addcmul(self.offset_C, x_BTC, self.factor_C)


class _RectifiedProduct:
    """A norm, a ReLU and a matrix, as bounds of the input and another matrix.

    relu(f x + o) is f clamp(x) + o, where -o / f is the lower bound of x, or for a negative f the
    upper one: f and o then go into the matrix and its bias.
    """

    def __init__(self, norm: _Norm, weight_OC: Tensor, bias_O: Tensor | None = None) -> None:
        factor_C, offset_C = norm.factor_C, norm.offset_C
        bound_C = -offset_C / factor_C
        self._lower_C = bound_C.where(factor_C > 0, -torch.inf).where(factor_C != 0, 0.0)
        self._upper_C = bound_C.where(factor_C < 0, torch.inf).where(factor_C != 0, 0.0)
        self._weight_OC = weight_OC * factor_C
        self._bias_O = weight_OC @ offset_C.where(factor_C != 0, offset_C.relu())
        if bias_O is not None:
            self._bias_O += bias_O

    def __call__(self, x_BTC: Tensor) -> Tensor:
        return F.linear(x_BTC.clamp(self._lower_C, self._upper_C), self._weight_OC, self._bias_O)


class _FoldedConvolution:
    """A convolution and the norm after it, in one or two dimensions by its weights."""

    def __init__(self, weights: Weights, convolution: str, norm: str) -> None:
        folded = _Norm(weights, norm)
        weight = weights[f"{convolution}.weight"]
        self.weight = weight * folded.factor_C.view(-1, *[1] * (weight.ndim - 1))
        self.bias_C = folded.offset_C
        self._convolve = F.conv2d if weight.ndim == 4 else F.conv1d
        if weight.ndim == 4:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)

    def __call__(
        self, x: Tensor, stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0
    ) -> Tensor:
        return self._convolve(x, self.weight, self.bias_C, stride=stride, padding=padding)


class _FrequencyStem:
    """Residual blocks over frequency and time that keep an eighth of the frequency rows.

    Channels are last in memory, and where a product of matrices does the same as a convolution it
    is one: both are faster on CPUs.
    """

    def __init__(self, weights: Weights) -> None:
        entry = _FoldedConvolution(weights, "head.conv1", "head.bn1")
        self._entry = entry.weight.flatten(1), entry.bias_C
        self._blocks = [
            _ResidualBlock(weights, f"head.layer{layer}.{block}")
            for layer in (1, 2)
            for block in (0, 1)
        ]
        self._exit = _FoldedConvolution(weights, "head.conv2", "head.bn2")

    def __call__(self, features_BFT: Tensor) -> Tensor:
        padded_BFT = F.pad(features_BFT, (1, 1, 1, 1))
        around_BHTK = padded_BFT.unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)
        x_BCHT = F.linear(around_BHTK, *self._entry).relu_().permute(0, 3, 1, 2)
        for block in self._blocks:
            x_BCHT = block(x_BCHT)
        return self._exit(x_BCHT, stride=(2, 1), padding=1).relu_().flatten(1, 2)


class _ResidualBlock:
    """Two convolutions and a way around them; with a shortcut of its own it halves the rows."""

    def __init__(self, weights: Weights, name: str) -> None:
        self._first = _FoldedConvolution(weights, f"{name}.conv1", f"{name}.bn1")
        self._second = _FoldedConvolution(weights, f"{name}.conv2", f"{name}.bn2")
        self._shortcut = None
        if f"{name}.shortcut.0.weight" in weights:
            shortcut = _FoldedConvolution(weights, f"{name}.shortcut.0", f"{name}.shortcut.1")
            self._shortcut = shortcut.weight.flatten(1), shortcut.bias_C

    def __call__(self, x_BCHT: Tensor) -> Tensor:
        around_BCHT, stride = x_BCHT, (1, 1)
        if self._shortcut is not None:
            every_second_BHTC = x_BCHT[:, :, ::2].permute(0, 2, 3, 1)
            around_BCHT = F.linear(every_second_BHTC, *self._shortcut).permute(0, 3, 1, 2)
            stride = (2, 1)
        inner_BCHT = self._first(x_BCHT, stride=stride, padding=1).relu_()
        return self._second(inner_BCHT, padding=1).add_(around_BCHT).relu_()


class _DenseBlock:
    """Layers that each add channels to those before, and a transition that halves them."""

    def __init__(self, weights: Weights, block: str, transition: str, dilation: int) -> None:
        self._layers = [
            _DenseLayer(weights, name, dilation) for name in _layer_names(weights, block)
        ]
        self._transition = _RectifiedProduct(
            _Norm(weights, f"{transition}.nonlinear.batchnorm"),
            weights[f"{transition}.linear.weight"][:, :, 0],
        )

    def __call__(self, x_BTC: Tensor) -> Tensor:
        num_channels = x_BTC.shape[2]
        edges = [num_channels]
        for layer in self._layers:
            edges.append(edges[-1] + layer.num_channels)
        all_BTC = x_BTC.new_empty(*x_BTC.shape[:2], edges[-1])
        all_BTC[:, :, :num_channels] = x_BTC
        for layer, first, end in zip(self._layers, edges, edges[1:], strict=False):
            layer(all_BTC[:, :, :first], all_BTC[:, :, first:end])
        return self._transition(all_BTC)


def _layer_names(weights: Weights, block: str) -> Iterator[str]:
    number = 1
    while f"{block}.tdnnd{number}.linear1.weight" in weights:
        yield f"{block}.tdnnd{number}"
        number += 1


class _DenseLayer:
    """A bottleneck and a dilated convolution over three frames, gated channel by channel."""

    def __init__(self, weights: Weights, name: str, dilation: int) -> None:
        self._dilation = dilation
        bottleneck = _FoldedConvolution(weights, f"{name}.linear1", f"{name}.nonlinear2.batchnorm")
        self._bottleneck = _RectifiedProduct(
            _Norm(weights, f"{name}.nonlinear1.batchnorm"),
            bottleneck.weight[:, :, 0],
            bottleneck.bias_C,
        )
        local_OCK = weights[f"{name}.cam_layer.linear_local.weight"]
        self.num_channels = len(local_OCK)
        self._local_KC = local_OCK.permute(2, 0, 1).flatten(0, 1).contiguous()
        self._gate_in = _matrix_and_bias(weights, f"{name}.cam_layer.linear1")
        self._gate_out = _matrix_and_bias(weights, f"{name}.cam_layer.linear2")

    def __call__(self, x_BTC: Tensor, added_BTO: Tensor) -> None:
        """Write the channels that this layer adds."""
        x_BTC = self._bottleneck(x_BTC).relu_()
        before_BTO, here_BTO, after_BTO = F.linear(x_BTC, self._local_KC).chunk(3, dim=2)
        added_BTO.copy_(here_BTO)
        added_BTO[:, self._dilation :] += before_BTO[:, : -self._dilation]
        added_BTO[:, : -self._dilation] += after_BTO[:, self._dilation :]
        for second_BTO, gate_BO in zip(
            added_BTO.split(CONTEXT_FRAMES, dim=1), self._gates(x_BTC).unbind(1), strict=True
        ):
            second_BTO *= gate_BO[:, None]

    def _gates(self, x_BTC: Tensor) -> Tensor:
        """From the means of the input and of each second of it, which all its frames share."""
        near_BSC = torch.stack([part.mean(dim=1) for part in x_BTC.split(CONTEXT_FRAMES, 1)], 1)
        context_BSC = x_BTC.mean(dim=1, keepdim=True) + near_BSC
        return F.linear(F.linear(context_BSC, *self._gate_in).relu_(), *self._gate_out).sigmoid_()


def _matrix_and_bias(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"][:, :, 0], weights[f"{name}.bias"]
