"""Matrices in 8 and 4 bits, and fp16 where it is wide enough."""

import pytest
import torch
from torch import nn

from nightscribe.model import torch_private
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.native_tensors import read
from nightscribe.model.weight_quantization import (
    Float8Weight,
    Int4Weight,
    Int8Weight,
    QuantizedLinear,
    float8_rows,
    quantize_linears,
)
from tests.model.reference import SMALL_LANGUAGE_MODEL, random_pair

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tensors():
    return list(read(random_pair().ours.language_model.native_tensors()))


def matrix(num_rows, num_columns, seed=0):
    drawn = torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.linspace(0.01, 3, num_rows)[:, None]


@pytest.mark.parametrize("num_columns", [32, 64, 80, 176])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_entry_is_off_by_half_a_step_of_its_scale_at_most(num_columns, dtype):
    weight_NK = matrix(20, num_columns)
    rounding = weight_NK.abs().amax() * 4 * torch.finfo(dtype).eps
    steps_8 = Int8Weight.of(weight_NK, torch.float32).scales_N[:, None]
    off_8 = (Int8Weight.of(weight_NK, dtype).dequantized().float() - weight_NK).abs()
    assert (off_8 <= steps_8 * 0.51 + rounding).all()
    off_4 = (Int4Weight.of(weight_NK, dtype).dequantized().float() - weight_NK).abs()
    padded = nn.functional.pad(weight_NK, (0, -num_columns % 32)).unflatten(1, (-1, 32))
    step_NG = (padded.amax(2) - padded.amin(2)) / 15
    off_NGC = nn.functional.pad(off_4, (0, -num_columns % 32)).unflatten(1, (-1, 32))
    assert (off_NGC <= step_NG[..., None] * 0.51 + rounding).all()
    assert off_4.mean() > off_8.mean() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_codes_count_steps_of_the_scale_as_it_is_stored(dtype):
    weight_NK = matrix(20, 256)
    found = Int8Weight.of(weight_NK, dtype)
    exact_NK = found.codes_NK.double() * found.scales_N.double()[:, None]
    assert ((exact_NK - weight_NK).abs() <= 0.501 * found.scales_N.double()[:, None]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_codes_in_4_bits_count_steps_of_the_scale_from_the_zero_as_they_are_stored(dtype):
    weight_NK = matrix(20, 256)
    found = Int4Weight.of(weight_NK, dtype)
    scales_NG1, zeros_NG1 = found.scales_zeros_GN2.double().permute(2, 1, 0)[..., None]
    codes_NK = torch.stack((found.codes_NK & 15, found.codes_NK >> 4), dim=-1).flatten(1)
    codes_NGC, weight_NGC = (
        of_NK.double().unflatten(1, (-1, 32)) for of_NK in (codes_NK, weight_NK)
    )
    steps_NGC = (weight_NGC - zeros_NG1) / scales_NG1 + 8
    assert ((codes_NGC - steps_NGC.clamp(0, 15)).abs() <= 0.501).all()


def test_the_largest_entry_of_a_row_has_the_largest_code():
    codes_NK = Int8Weight.of(matrix(20, 256), torch.float32).codes_NK
    assert codes_NK.int().abs().amax(dim=1).tolist() == [127] * 20


def test_the_ends_of_a_group_have_the_lowest_and_the_highest_of_16_codes():
    codes_NK = Int4Weight.of(matrix(20, 32), torch.float32).codes_NK
    halves_NK = torch.cat((codes_NK & 15, codes_NK >> 4), dim=1)
    assert (halves_NK.amin(dim=1).tolist(), halves_NK.amax(dim=1).tolist()) == ([0] * 20, [15] * 20)


def test_a_matrix_of_zeros_stays_one():
    for format in (Int8Weight, Int4Weight):
        assert not format.of(torch.zeros(16, 64), torch.bfloat16).dequantized().any()


@pytest.mark.parametrize("num_rows", [1, 5])
@pytest.mark.parametrize("shape", [(48, 96), (32, 80), (128, 64)])
@pytest.mark.parametrize("format", [Int8Weight, Int4Weight])
def test_torch_s_own_products_multiply_by_the_plain_matrix(monkeypatch, format, shape, num_rows):
    weight_NK = matrix(*shape)
    x_MK = torch.randn(num_rows, shape[1], generator=torch.Generator().manual_seed(1)).bfloat16()
    found = format.of(weight_NK, torch.bfloat16).matmul(x_MK).float()
    monkeypatch.setattr(torch_private, "has_int8_matmul", lambda like: False)
    monkeypatch.setattr(torch_private, "has_int4_matmul", lambda like: False)
    without = format.of(weight_NK, torch.bfloat16)
    expected = x_MK.float() @ without.dequantized().float().T
    for product in (found, without.matmul(x_MK).float()):
        assert (product - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("num_rows", [1, 5])
def test_float8_products_are_those_of_the_rounded_numbers(num_rows):
    """As `_scaled_mm` defines them: sums of float8 times float8, times both scales."""
    x_MK = torch.randn(num_rows, 96, generator=torch.Generator().manual_seed(1)).bfloat16()
    weight, (x8_MK, scales_M1) = Float8Weight.of(matrix(48, 96), torch.bfloat16), float8_rows(x_MK)
    exact = (x8_MK.double() * scales_M1) @ (weight.numbers_NK.double() * weight.scales_1N.T).T
    torch.testing.assert_close(weight.matmul(x_MK), exact.bfloat16(), rtol=2**-7, atol=1e-6)
    assert x8_MK.float().abs().amax(dim=1).tolist() == [448] * num_rows
    plain = x_MK.float() @ matrix(48, 96).T
    assert (exact - plain).square().mean().sqrt() < 0.06 * plain.std()
    assert not Float8Weight.of(torch.zeros(16, 32), torch.bfloat16).matmul(x_MK[:, :32]).any()


def test_bfloat16_on_a_cpu_uses_torch_s_own_product_in_4_bits():
    assert Int4Weight.of(matrix(32, 96), torch.bfloat16).is_for_kernel
    assert not Int4Weight.of(matrix(20, 96), torch.bfloat16).is_for_kernel
    assert not Int4Weight.of(matrix(32, 96), torch.float16).is_for_kernel


@pytest.mark.parametrize("format", ["int8", "int4", "float8"])
def test_only_the_matrices_of_the_transformer_are_compressed(tensors, format):
    model = LanguageModel.load(
        SMALL_LANGUAGE_MODEL, tensors, CPU, torch.float32, weight_format=format
    )
    layer = model.transformer.layers[0]
    for part in (layer.attention, layer.feed_forward):
        assert isinstance(part.project_in, QuantizedLinear)
        assert isinstance(part.project_out, QuantizedLinear)
    assert isinstance(model.text_head, nn.Linear)
    whole = dict(tensors)["transformer.layers.0.self_attn.out_proj.weight"]
    project_out = layer.attention.project_out
    assert isinstance(project_out, QuantizedLinear)
    kept = project_out.weight.dequantized()
    assert 0 < (kept - whole).abs().max() < 0.2 * whole.abs().max()


def logits_of(model, seed=0):
    draws = torch.Generator().manual_seed(seed)
    codes_STK = torch.randint(0, 64, (3, 40, 5), generator=draws)
    text_ST = torch.randint(0, 50, (3, 40), generator=draws)
    with torch.no_grad():
        return model(codes_STK, text_ST).logits_STV


def test_fewer_bits_stray_further_from_fp32(tensors):
    def loaded(dtype, format=None):
        return LanguageModel.load(SMALL_LANGUAGE_MODEL, tensors, CPU, dtype, weight_format=format)

    exact = logits_of(loaded(torch.float32))
    half, eight, float8, four = (
        (logits_of(loaded(dtype, format)) - exact).square().mean().sqrt() / exact.std()
        for dtype, format in (
            (torch.float16, None),
            (torch.float32, "int8"),
            (torch.float32, "float8"),
            (torch.float32, "int4"),
        )
    )
    assert 0 < half < 0.01
    assert half < eight < 0.1
    assert eight < float8 < 0.4
    assert eight < four < 0.7


def test_a_compressed_matrix_is_not_written_back(tensors):
    model = LanguageModel.load(
        SMALL_LANGUAGE_MODEL, tensors, CPU, torch.float32, weight_format="int8"
    )
    with pytest.raises(ValueError, match="cannot be written back"):
        list(read(model.native_tensors()))


def test_a_missing_or_misshapen_matrix_is_refused_as_ever(tensors):
    name = "transformer.layers.1.gating.linear_in.weight"
    without = [pair for pair in tensors if pair[0] != name]
    with pytest.raises(ValueError, match=f"lacks tensor '{name}'"):
        LanguageModel.load(SMALL_LANGUAGE_MODEL, without, CPU, torch.float32, weight_format="int8")
    with pytest.raises(ValueError, match=f"'{name}' has shape"):
        LanguageModel.load(
            SMALL_LANGUAGE_MODEL,
            [*without, (name, torch.zeros(3, 3))],
            CPU,
            torch.float32,
            weight_format="int4",
        )


def test_nothing_is_allocated_before_a_matrix_is_there():
    with torch.device("meta"):
        layers = nn.Sequential(nn.Linear(64, 64, bias=False))
    quantize_linears(layers, "int8", CPU)
    assert list(layers.parameters()) == []
    assert layers[0].weight is None


def in_fp16(tensors):
    return LanguageModel.load(SMALL_LANGUAGE_MODEL, tensors, CPU, torch.float16)


def test_fp16_keeps_residuals_and_logits_in_fp32(tensors):
    model = in_fp16(tensors)
    seen = {}
    first = model.transformer.layers[0]
    first.attention_norm.register_forward_hook(
        lambda module, x, y: seen.update(residual=x[0].dtype, normed=y.dtype)
    )
    model.text_head.register_forward_hook(lambda module, x, y: seen.update(logits=y.dtype))
    logits_of(model)
    assert seen == {
        "residual": torch.float32,
        "normed": torch.float16,
        "logits": torch.float32,
    }
    assert first.attention.project_in.weight.dtype == torch.float16


def test_a_residual_beyond_fp16_does_no_harm(tensors):
    loud = [(name, tensor.clone()) for name, tensor in tensors]
    for name, tensor in loud:
        if name.startswith("emb."):
            tensor[:, 0] = 30000
    exact = LanguageModel.load(SMALL_LANGUAGE_MODEL, loud, CPU, torch.float32)
    codes, text = torch.zeros(1, 4, 5, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64)
    assert exact.embed(codes, text).abs().max() > 65504
    with torch.no_grad():
        expected, found = (model(codes, text).logits_STV for model in (exact, in_fp16(loud)))
    assert found.isfinite().all()
    assert torch.allclose(found, expected, atol=0.02 * expected.abs().max())
