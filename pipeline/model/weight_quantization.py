"""Linear layers with weights in int8, float8 or int4; everything else stays as it is.

8 bits have a scale for each row, 4 bits a scale and a zero for each group of a row. A matrix is
quantized as it is read, so that only one is in memory at full size at a time. On a GPU from Ampere
on, with Triton, no product widens a matrix in memory.

N rows, K columns, G groups of a row, M rows of the input.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model import torch_private
from nightscribe.model.kv_cache import limit_of
from nightscribe.model.native_tensors import NativeTensor
from nightscribe.model.triton_support import kernels_of_weights, widens_in_registers

GROUP = 32  # columns that share a scale in 4 bits
HIGHEST_8, LEVELS_4 = 127, 15
SMALLEST_SCALE = 1e-12  # of float8: a row of zeros has one
KERNEL_ROWS = 16  # rows of a matrix that torch's 4-bit kernel takes at a time


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A row is its codes times its scale."""

    codes_NK: Tensor
    scales_N: Tensor

    @classmethod
    def of(cls, weight_NK: Tensor, dtype: torch.dtype) -> "Int8Weight":
        weight_NK = weight_NK.float()
        scales_N = _positive(weight_NK.abs().amax(dim=1) / HIGHEST_8, dtype)
        codes_NK = (weight_NK / scales_N.float()[:, None]).round().clamp(-HIGHEST_8, HIGHEST_8)
        return cls(codes_NK.to(torch.int8), scales_N)

    def dequantized(self) -> Tensor:
        return self.codes_NK.to(self.scales_N.dtype) * self.scales_N[:, None]

    def matmul(self, x_MK: Tensor) -> Tensor:
        if widens_in_registers(x_MK):
            return kernels_of_weights().int8_linear(x_MK, self.codes_NK, self.scales_N)
        if torch_private.has_int8_matmul(x_MK):
            return torch_private.int8_matmul(x_MK, self.codes_NK, self.scales_N)
        return F.linear(x_MK, self.dequantized())


@dataclass(frozen=True, slots=True)
class Int4Weight:
    """An entry is (its code - 8) times the scale of its group, plus the group's zero.

    Two codes share a byte, the earlier in the lower half; on a CPU where torch has a kernel for it,
    they are in the layout of that kernel.
    """

    codes_NK: Tensor
    scales_zeros_GN2: Tensor
    num_columns: int
    is_for_kernel: bool

    @classmethod
    def of(cls, weight_NK: Tensor, dtype: torch.dtype) -> "Int4Weight":
        num_rows, num_columns = weight_NK.shape
        grouped = F.pad(weight_NK.float(), (0, -num_columns % GROUP)).unflatten(1, (-1, GROUP))
        low, high = grouped.amin(dim=2), grouped.amax(dim=2)
        scales_NG = _positive((high - low) / LEVELS_4, dtype)
        zeros_NG = (low + 8 * scales_NG.float()).to(dtype)
        steps = (grouped - zeros_NG.float()[..., None]) / scales_NG.float()[..., None]
        codes_NK = (steps.round() + 8).clamp(0, LEVELS_4).flatten(1).int()
        is_for_kernel = num_rows % KERNEL_ROWS == 0 and torch_private.has_int4_matmul(scales_NG)
        packed_NK = torch_private.pack_int4(codes_NK) if is_for_kernel else _in_bytes(codes_NK)
        scales_zeros_GN2 = torch.stack((scales_NG.T, zeros_NG.T), dim=-1).contiguous()
        return cls(packed_NK, scales_zeros_GN2, num_columns, is_for_kernel)

    def dequantized(self) -> Tensor:
        codes_NK = torch.stack((self.codes_NK & 15, self.codes_NK >> 4), dim=-1).flatten(1)
        scales_NG, zeros_NG = self.scales_zeros_GN2.permute(2, 1, 0)
        levels = (codes_NK.to(scales_NG.dtype) - 8).unflatten(1, (-1, GROUP))
        entries = levels * scales_NG[..., None] + zeros_NG[..., None]
        return entries.flatten(1)[:, : self.num_columns]

    def matmul(self, x_MK: Tensor) -> Tensor:
        if widens_in_registers(x_MK):
            weight = self.codes_NK, self.scales_zeros_GN2, self.num_columns
            return kernels_of_weights().int4_linear(x_MK, *weight)
        if not self.is_for_kernel:
            return F.linear(x_MK, self.dequantized())
        padded_MK = F.pad(x_MK, (0, -self.num_columns % GROUP))
        return torch_private.int4_matmul(padded_MK, self.codes_NK, GROUP, self.scales_zeros_GN2)


@dataclass(frozen=True, slots=True)
class Float8Weight:
    """A row is its float8 (e4m3) numbers times its scale; so is a row of the input, for a product.

    A GPU multiplies float8 by float8. On a CPU the same numbers are widened and multiplied in fp32.
    """

    numbers_NK: Tensor
    scales_1N: Tensor

    @classmethod
    def of(cls, weight_NK: Tensor, dtype: torch.dtype) -> "Float8Weight":
        numbers_NK, scales_N1 = float8_rows(weight_NK)
        return cls(numbers_NK, scales_N1.T.contiguous())

    def dequantized(self) -> Tensor:
        return self.numbers_NK.float() * self.scales_1N.T

    def matmul(self, x_MK: Tensor) -> Tensor:
        is_fused = widens_in_registers(x_MK)
        x8_MK, scales_M1 = kernels_of_weights().float8_rows(x_MK) if is_fused else float8_rows(x_MK)
        if x_MK.is_cuda:
            weight = self.numbers_NK, self.scales_1N
            return torch_private.float8_matmul(x8_MK, scales_M1, *weight, x_MK.dtype)
        product_MN = x8_MK.float() @ self.numbers_NK.float().T
        return (product_MN * scales_M1 * self.scales_1N).to(x_MK.dtype)


def float8_rows(x_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Each row divided by a scale of its own, in float8; and the scales, M1."""
    limit = limit_of(torch.float8_e4m3fn)
    scales_M1 = (x_MK.float().abs().amax(dim=1, keepdim=True) / limit).clamp_min(SMALLEST_SCALE)
    ratios_MK = (x_MK.float() / scales_M1).clamp(-limit, limit)
    return ratios_MK.to(torch.float8_e4m3fn), scales_M1


Weight = Int8Weight | Int4Weight | Float8Weight
FORMATS: dict[str, type[Int8Weight] | type[Int4Weight] | type[Float8Weight]] = {
    "int8": Int8Weight,
    "int4": Int4Weight,
    "float8": Float8Weight,
}


class QuantizedLinear(nn.Module):
    """A linear layer without bias, for inference only; its weight is loaded once."""

    def __init__(self, linear: nn.Linear, format: str, device: torch.device | str) -> None:
        super().__init__()
        self._format, self._device = FORMATS[format], device
        self._shape, self._dtype = tuple(linear.weight.shape), linear.weight.dtype
        self.weight: Weight | None = None

    def native(self) -> NativeTensor:
        return _QuantizingTensor(self._shape, torch.empty(self._shape, device="meta"), self)

    def load(self, weight_NK: Tensor) -> None:
        self.weight = self._format.of(weight_NK.to(self._device), self._dtype)

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return self.weight.matmul(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


@dataclass(frozen=True, slots=True)
class _QuantizingTensor(NativeTensor):
    """The place of a weight that is quantized as it is loaded."""

    linear: QuantizedLinear

    def fill(self, tensor: Tensor) -> None:
        self.linear.load(tensor)

    def read(self) -> Tensor:
        raise ValueError("a quantized weight cannot be written back")


def quantize_linears(module: nn.Module, format: str, device: torch.device | str) -> None:
    """Replace the linear layers of a module on the meta device by quantized ones."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, QuantizedLinear(child, format, device))
        else:
            quantize_linears(child, format, device)


def _positive(scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Scales rounded to the dtype in which they are stored, before codes use them; never 0."""
    return scales.to(dtype).clamp_min(torch.finfo(dtype).tiny)


def _in_bytes(codes_NK: Tensor) -> Tensor:
    codes_NK = codes_NK.to(torch.uint8)
    return codes_NK[:, 0::2] | (codes_NK[:, 1::2] << 4)
