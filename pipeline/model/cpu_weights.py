"""Linear layers and convolutions in the order a CPU reads best.

oneDNN multiplies a few rows by a matrix two to three times as fast if the matrix lies in blocks,
and is as much faster at convolutions of columns whose channels lie together. A single row of fp32
is multiplied quickest by a matrix that lies transposed.
A packed layer can only be used, not trained or written back.
"""

import torch
from torch import Tensor, nn

# B rows, I input channels, O output channels, N columns

DTYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Module):
    """A linear layer without bias, packed for products with about `num_rows` rows."""

    def __init__(self, linear: nn.Linear, num_rows: int) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), num_rows)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")


def transpose(linear: nn.Linear) -> None:
    """Lay out the same matrix so that the inputs of all outputs lie together."""
    weight_OI = linear.weight.detach().T.contiguous().T
    linear.weight = nn.Parameter(weight_OI, requires_grad=False)


class PackedConv1d(nn.Module):
    """A convolution packed for long inputs; its output's channels lie together."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        assert conv.padding == (0,)
        assert conv.groups == 1
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.steps = [1, *conv.stride], [1, *conv.dilation]
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach()[:, :, None], [0, 0], *self.steps, 1, [1, conv.in_channels, 1, 64]
        )

    def forward(self, x_BIN: Tensor) -> Tensor:
        y_BO1N = torch.ops.mkldnn._convolution_pointwise(
            x_BIN[:, :, None], self.packed, self.bias, [0, 0], *self.steps, 1, "none", [], ""
        )
        return y_BO1N[:, :, 0]


def pack(module: nn.Module, num_rows: int) -> None:
    """Replace the linear layers and convolutions inside a module where that is quicker."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and child.bias is None and _is_packable(child.weight):
            if num_rows == 1 and child.weight.dtype == torch.float32:
                transpose(child)
            else:
                setattr(module, name, PackedLinear(child, num_rows))
        elif isinstance(child, nn.Conv1d) and _is_packable(child.weight):
            setattr(module, name, PackedConv1d(child))
        else:
            pack(child, num_rows)


def _is_packable(weight: Tensor) -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and weight.device.type == "cpu"
        and weight.dtype in DTYPES
    )
