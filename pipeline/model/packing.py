"""Linear layers in the order a CPU reads best.

oneDNN multiplies a few rows by a matrix two to three times as fast if the matrix lies in blocks.
A packed layer can only be used, not trained or written back.
"""

import torch
from torch import Tensor, nn

DTYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Module):
    """A linear layer without bias, packed for products with about `num_rows` rows."""

    def __init__(self, linear: nn.Linear, num_rows: int) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), num_rows)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")


def pack(module: nn.Module, num_rows: int) -> None:
    """Replace the linear layers inside a module where that is quicker."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and _is_packable(child):
            setattr(module, name, PackedLinear(child, num_rows))
        else:
            pack(child, num_rows)


def _is_packable(linear: nn.Linear) -> bool:
    weight = linear.weight
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and weight.device.type == "cpu"
        and weight.dtype in DTYPES
        and linear.bias is None
    )
