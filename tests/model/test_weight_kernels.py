"""Products with quantized weights, widened in registers; without a GPU interpreted."""

import pytest
import torch

from nightscribe.model import torch_private
from nightscribe.model.weight_quantization import Int4Weight, Int8Weight, float8_rows

pytest.importorskip("triton", reason="triton is not installed: our kernels were not run")

from nightscribe.model import weight_kernels

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(48, 96), (130, 272), (64, 80)]  # rows and columns: blocks filled in part, half groups


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)


@pytest.mark.parametrize("num_rows", [1, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_that_with_the_widened_matrix(shape, dtype, num_rows, monkeypatch):
    monkeypatch.setattr(torch_private, "has_int4_matmul", lambda like: False)
    weight_NK = noise(*shape) * torch.linspace(0.01, 3, shape[0], device=DEVICE)[:, None]
    x_MK = noise(num_rows, shape[1]).to(dtype)
    eight, four = Int8Weight.of(weight_NK, dtype), Int4Weight.of(weight_NK, dtype)
    packed = four.codes_NK, four.scales_zeros_GN2, four.num_columns
    products = (
        (eight, weight_kernels.int8_linear(x_MK, eight.codes_NK, eight.scales_N)),
        (four, weight_kernels.int4_linear(x_MK, *packed)),
    )
    for weight, product in products:
        wanted = x_MK.double() @ weight.dequantized().double().T
        assert product.dtype == dtype
        # The widened matrix is rounded once more than the numbers in the kernel; sums add up.
        tolerance = (
            (8 if dtype == torch.float32 else 2)
            * torch.finfo(dtype).eps
            * float(wanted.abs().max())
        )
        assert (product - wanted).abs().max() < tolerance


def test_rows_in_float8_are_those_of_torch():
    x_MK = noise(3, 200).bfloat16()
    x_MK[1] = 0
    (found, scales), (wanted, wanted_scales) = weight_kernels.float8_rows(x_MK), float8_rows(x_MK)
    torch.testing.assert_close(scales, wanted_scales)
    # Triton's interpreter halves what float8 rounds up to a power of two.
    is_close = torch.isclose(found.float(), wanted.float(), rtol=2**-3, atol=2**-9)
    assert is_close.float().mean() > 0.97
    assert not found[1].float().any()
