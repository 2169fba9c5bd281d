"""CAM++: a speaker embedding of log mel features (Wang et al. 2023, arXiv 2303.00332).

A small 2-D network over frequency and time, then densely connected TDNN layers, each of which is
gated by the mean of the whole input and of its surroundings (context-aware masking). Norms that
follow a convolution are folded into it when the weights are loaded.

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
# A deviation over fewer frames is undefined.

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
        x_BCT = self._entry(x_BCT, stride=2, padding=2).relu_()
        for block in self._blocks:
            x_BCT = block(x_BCT)
        x_BCT = self._exit(x_BCT).relu_()
        statistics_BC = torch.cat([x_BCT.mean(dim=2), x_BCT.std(dim=2)], dim=1)
        return self._dense(statistics_BC[:, :, None])[:, :, 0]


class _Norm:
    """Batch normalisation with the statistics of training: a factor and an offset per channel."""

    def __init__(self, weights: Weights, name: str) -> None:
        deviation_C = (weights[f"{name}.running_var"] + NORM_EPSILON).sqrt()
        scale_C, offset_C = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
        self.factor_C = (1 if scale_C is None else scale_C) / deviation_C
        shift_C = weights[f"{name}.running_mean"] * self.factor_C
        self.offset_C = (0 if offset_C is None else offset_C) - shift_C

    def __call__(self, x_BCT: Tensor) -> Tensor:
        return torch.addcmul(self.offset_C[:, None], x_BCT, self.factor_C[:, None])


class _FoldedConvolution:
    """A convolution and the norm after it, in one or two dimensions by its weights."""

    def __init__(self, weights: Weights, convolution: str, norm: str) -> None:
        folded = _Norm(weights, norm)
        weight = weights[f"{convolution}.weight"]
        self.weight = weight * folded.factor_C.view(-1, *[1] * (weight.ndim - 1))
        self._bias_C = folded.offset_C
        self._convolve = F.conv2d if weight.ndim == 4 else F.conv1d

    def __call__(
        self, x: Tensor, stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0
    ) -> Tensor:
        return self._convolve(x, self.weight, self._bias_C, stride=stride, padding=padding)


class _FrequencyStem:
    """Residual blocks over frequency and time that keep an eighth of the frequency rows."""

    def __init__(self, weights: Weights) -> None:
        self._entry = _FoldedConvolution(weights, "head.conv1", "head.bn1")
        self._blocks = [
            _ResidualBlock(weights, f"head.layer{layer}.{block}")
            for layer in (1, 2)
            for block in (0, 1)
        ]
        self._exit = _FoldedConvolution(weights, "head.conv2", "head.bn2")

    def __call__(self, features_BFT: Tensor) -> Tensor:
        x_BCHT = self._entry(features_BFT[:, None], padding=1).relu_()
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
            self._shortcut = _FoldedConvolution(weights, f"{name}.shortcut.0", f"{name}.shortcut.1")

    def __call__(self, x_BCHT: Tensor) -> Tensor:
        stride = (2, 1) if self._shortcut else (1, 1)
        around = self._shortcut(x_BCHT, stride=stride) if self._shortcut else x_BCHT
        inner = self._first(x_BCHT, stride=stride, padding=1).relu_()
        return (self._second(inner, padding=1) + around).relu_()


class _DenseBlock:
    """Layers that each add channels to those before, and a transition that halves them."""

    def __init__(self, weights: Weights, block: str, transition: str, dilation: int) -> None:
        self._layers = [
            _DenseLayer(weights, name, dilation) for name in _layer_names(weights, block)
        ]
        self._norm = _Norm(weights, f"{transition}.nonlinear.batchnorm")
        self._weight = weights[f"{transition}.linear.weight"]

    def __call__(self, x_BCT: Tensor) -> Tensor:
        for layer in self._layers:
            x_BCT = torch.cat([x_BCT, layer(x_BCT)], dim=1)
        return F.conv1d(self._norm(x_BCT).relu_(), self._weight)


def _layer_names(weights: Weights, block: str) -> Iterator[str]:
    number = 1
    while f"{block}.tdnnd{number}.linear1.weight" in weights:
        yield f"{block}.tdnnd{number}"
        number += 1


class _DenseLayer:
    """A bottleneck and a dilated convolution, gated channel by channel."""

    def __init__(self, weights: Weights, name: str, dilation: int) -> None:
        self._dilation = dilation
        self._norm = _Norm(weights, f"{name}.nonlinear1.batchnorm")
        self._bottleneck = _FoldedConvolution(
            weights, f"{name}.linear1", f"{name}.nonlinear2.batchnorm"
        )
        self._local_weight = weights[f"{name}.cam_layer.linear_local.weight"]
        self._gate_in = _weight_and_bias(weights, f"{name}.cam_layer.linear1")
        self._gate_out = _weight_and_bias(weights, f"{name}.cam_layer.linear2")

    def __call__(self, x_BCT: Tensor) -> Tensor:
        x_BCT = self._bottleneck(self._norm(x_BCT).relu_()).relu_()
        local_BCT = F.conv1d(
            x_BCT, self._local_weight, padding=self._dilation, dilation=self._dilation
        )
        return local_BCT * self._gate(x_BCT)

    def _gate(self, x_BCT: Tensor) -> Tensor:
        """From the means of the input and of each second of it, which all its frames share."""
        num_frames = x_BCT.shape[2]
        near_BCS = F.avg_pool1d(x_BCT, CONTEXT_FRAMES, CONTEXT_FRAMES, ceil_mode=True)
        context_BCS = x_BCT.mean(dim=2, keepdim=True) + near_BCS
        gate_BCS = F.conv1d(F.conv1d(context_BCS, *self._gate_in).relu_(), *self._gate_out)
        return gate_BCS.sigmoid_().repeat_interleave(CONTEXT_FRAMES, dim=2)[:, :, :num_frames]


def _weight_and_bias(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
