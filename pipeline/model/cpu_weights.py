"""Linear layers and convolutions in the memory layout a CPU is fastest with.

oneDNN multiplies a few rows by a matrix two to three times as fast if the matrix is stored in
blocks, and gains as much in convolutions with channels last. A single row of fp32 is multiplied
fastest by a transposed matrix.
Without AVX-512 the blocks that a convolution wants depend on the number of its columns and threads.
To rearrange others takes up to fifty times as long as the convolution, at every call: there, its
weight has channels last, which is rearranged fast, and few columns of a large one are a product.
A packed layer can only be used for inference: it cannot be trained or written back.
"""

import torch
from torch import Tensor, nn

from nightscribe.model import torch_private
from nightscribe.model.seanet import CausalConvTranspose1d

# B rows, I input channels, O output channels, N columns, W columns of the output, M channels of all
# columns of a stride, P columns of a carry

DTYPES = (torch.float32, torch.bfloat16)
# By measurement on a CPU with AVX2: from so many weights on, for at most so many columns of output,
# a product is at least as fast as a convolution.
MIN_PRODUCT_WEIGHTS = 1 << 17
MAX_PRODUCT_COLUMNS = 256


class PackedLinear(nn.Module):
    """A linear layer without bias, packed for products with about `num_rows` rows."""

    def __init__(self, linear: nn.Linear, num_rows: int) -> None:
        super().__init__()
        self.packed = torch_private.pack_linear(linear.weight.detach(), num_rows)

    def forward(self, x: Tensor) -> Tensor:
        return torch_private.packed_linear(x, self.packed)


def transpose(linear: nn.Linear) -> None:
    """Store the same matrix so that the inputs of all outputs are together."""
    weight_OI = linear.weight.detach().T.contiguous().T
    linear.weight = nn.Parameter(weight_OI, requires_grad=False)


class PackedConv1d(nn.Module):
    """A convolution packed for long inputs; its output has channels last."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        assert conv.padding == (0,)
        assert conv.groups == 1
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.stride, self.dilation = [1, *conv.stride], [1, *conv.dilation]
        self.packed = torch_private.pack_conv1d(conv)

    def forward(self, x_BIN: Tensor) -> Tensor:
        return torch_private.packed_conv1d(
            x_BIN, self.packed, self.bias, self.stride, self.dilation
        )


class ProductConv1d(nn.Module):
    """A convolution of many weights, which makes few columns by a product of matrices."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = PackedConv1d(conv)
        (self.kernel_size,), (self.stride,) = conv.kernel_size, conv.stride
        weight_OK = conv.weight.detach().reshape(conv.out_channels, -1)
        self.packed = torch_private.pack_linear(weight_OK, MAX_PRODUCT_COLUMNS)

    def forward(self, x_BIN: Tensor) -> Tensor:
        windows_BWIK = x_BIN.unfold(2, self.kernel_size, self.stride).transpose(1, 2)
        if windows_BWIK.shape[:2].numel() > MAX_PRODUCT_COLUMNS:
            return self.conv(x_BIN)
        y_BWO = torch_private.packed_linear(windows_BWIK.flatten(2), self.packed)
        return (y_BWO if self.conv.bias is None else y_BWO + self.conv.bias).mT


class ProductConvTranspose1d(nn.Module):
    """Upsampling with windows of two strides, as two products: half a window is a stride of output.

    Its output has channels last.
    """

    def __init__(self, upsample: CausalConvTranspose1d) -> None:
        super().__init__()
        conv = upsample.conv
        self.stride, self.out_channels = conv.stride[0], conv.out_channels
        bias_O = conv.weight.new_zeros(self.out_channels) if conv.bias is None else conv.bias
        self.bias = bias_O.detach().repeat(self.stride)
        halves = conv.weight.detach().permute(2, 1, 0).flatten(0, 1).chunk(2)
        self.packed = [
            torch_private.pack_linear(half_MI.contiguous(), MAX_PRODUCT_COLUMNS)
            for half_MI in halves
        ]

    def forward(self, x_BIN: Tensor, carry_BOP: Tensor) -> Tensor:
        """The next columns; the carry is updated in place."""
        x_BNI = x_BIN.mT.contiguous()
        output_BNM = torch_private.packed_linear(x_BNI, self.packed[0], self.bias)
        later_BNM = torch_private.packed_linear(x_BNI, self.packed[1])
        output_BNM[:, 1:] += later_BNM[:, :-1]
        output_BNO = output_BNM.view(len(x_BIN), -1, self.out_channels)
        output_BNO[:, : self.stride] += carry_BOP.mT
        carry_BOP.copy_(later_BNM[:, -1].view(len(x_BIN), self.stride, -1).mT)
        return output_BNO.mT

    def silence(self, num_rows: int, device: torch.device) -> Tensor:
        """The carry at the beginning of a stream."""
        return torch.zeros(num_rows, self.out_channels, self.stride, device=device)


def pack(module: nn.Module, num_rows: int) -> None:
    """Replace the linear layers and convolutions inside a module where that is faster."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and child.bias is None and _is_packable(child.weight):
            if num_rows == 1 and child.weight.dtype == torch.float32:
                transpose(child)
            else:
                setattr(module, name, PackedLinear(child, num_rows))
        elif isinstance(child, nn.Conv1d) and _is_packable(child.weight):
            setattr(module, name, _fastest(child))
        elif isinstance(child, CausalConvTranspose1d) and _has_product(child.conv):
            setattr(module, name, ProductConvTranspose1d(child))
        else:
            pack(child, num_rows)


def _fastest(conv: nn.Conv1d) -> nn.Module:
    is_large = conv.weight.numel() >= MIN_PRODUCT_WEIGHTS
    if torch_private.has_one_conv_layout() or not is_large or conv.dilation != (1,):
        return PackedConv1d(conv)
    return ProductConv1d(conv)


def _has_product(conv: nn.ConvTranspose1d) -> bool:
    is_two_strides = conv.kernel_size[0] == 2 * conv.stride[0]
    return conv.groups == 1 and is_two_strides and _is_packable(conv.weight)


def describe_kernels() -> list[str]:
    """The instruction set of this CPU's kernels, and what falls back to slower ones."""
    lines = [f"CPU kernels of torch use {torch.backends.cpu.get_cpu_capability()}"]
    if not torch_private.has_packed_layers(torch.float32):
        return [*lines, "fallback: oneDNN packs no layers here; every precision is slower"]
    if not torch_private.has_packed_layers(torch.bfloat16):
        lines.append(
            "fallback: this CPU packs no bfloat16 layers, which needs AVX-512; "
            "engine.dtype=bfloat16, int8 and int4 work, but slower"
        )
    if not torch_private.has_int8_matmul(torch.empty(0, dtype=torch.bfloat16)):
        lines.append("fallback: this torch has no int8 products; int8 weights are dequantized")
    return lines


def _is_packable(weight: Tensor) -> bool:
    is_on_cpu = weight.device.type == "cpu"
    return is_on_cpu and weight.dtype in DTYPES and torch_private.has_packed_layers(weight.dtype)
