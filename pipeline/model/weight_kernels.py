"""Triton kernels for products with quantized weights, which are widened tile by tile in registers.

No matrix is ever widened in memory. Needs Triton, which comes with torch for NVIDIA GPUs.

M rows of the input, K columns, N rows of the matrix.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Arguments of a kernel are pointers, blocks and constants; Triton has no types for them.

import torch
import triton
import triton.language as tl
from torch import Tensor

from nightscribe.model.kv_cache import limit_of

MIN_ROWS, MAX_ROWS = 16, 64  # of a program
MATRIX_ROWS, COLUMNS = 64, 128
GROUP = 32  # columns that share a scale in 4 bits
SMALLEST_SCALE = 1e-12


def int8_linear(x_MK: Tensor, codes_NK: Tensor, scales_N: Tensor) -> Tensor:
    """The product with a matrix in 8 bits, whose scales are applied to the sums."""
    (num_rows, width), height = x_MK.shape, len(scales_N)
    y_MN, rows = x_MK.new_empty(num_rows, height), _rows_of_program(num_rows)
    int8_linear_kernel[(triton.cdiv(num_rows, rows), triton.cdiv(height, MATRIX_ROWS))](
        (x_MK.contiguous(), codes_NK, scales_N),
        y_MN,
        (num_rows, height, width),
        rows,
        MATRIX_ROWS,
        COLUMNS,
        _is_interpreted(),
    )
    return y_MN


@triton.jit
def int8_linear_kernel(
    inputs,
    y_ptr,
    sizes,
    rows: tl.constexpr,
    matrix_rows: tl.constexpr,
    columns: tl.constexpr,
    is_interpreted: tl.constexpr,
):
    x_ptr, codes_ptr, scales_ptr = inputs
    num_rows, height, width = sizes
    row_M = tl.program_id(0) * rows + tl.arange(0, rows)
    row_N = tl.program_id(1) * matrix_rows + tl.arange(0, matrix_rows)
    is_row_M1, is_row_N1 = (row_M < num_rows)[:, None], (row_N < height)[:, None]
    sum_MN = tl.zeros([rows, matrix_rows], tl.float32)
    for first in range(0, width, columns):
        column_1K = first + tl.arange(0, columns)[None, :]
        is_column_1K = column_1K < width
        x_at, codes_at = row_M[:, None] * width + column_1K, row_N[:, None] * width + column_1K
        x_MK = tl.load(x_ptr + x_at, mask=is_row_M1 & is_column_1K, other=0.0)
        codes_NK = tl.load(codes_ptr + codes_at, mask=is_row_N1 & is_column_1K, other=0)
        sum_MN = _multiplied(x_MK, codes_NK.to(tl.float32), sum_MN, is_interpreted)
    scale_N = tl.load(scales_ptr + row_N, mask=row_N < height, other=0.0).to(tl.float32)
    _store(y_ptr, sum_MN * scale_N[None, :], row_M, row_N, num_rows, height)


def int4_linear(
    x_MK: Tensor, codes_NK: Tensor, scales_zeros_GN2: Tensor, num_columns: int
) -> Tensor:
    """The product with a matrix in 4 bits: two columns a byte, a scale and a zero a group."""
    num_rows, height = len(x_MK), len(codes_NK)
    y_MN, rows = x_MK.new_empty(num_rows, height), _rows_of_program(num_rows)
    int4_linear_kernel[(triton.cdiv(num_rows, rows), triton.cdiv(height, MATRIX_ROWS))](
        (x_MK.contiguous(), codes_NK, scales_zeros_GN2),
        y_MN,
        (num_rows, height, num_columns, codes_NK.shape[1]),
        rows,
        MATRIX_ROWS,
        COLUMNS // 2,
        GROUP // 2,
        _is_interpreted(),
    )
    return y_MN


@triton.jit
def int4_linear_kernel(
    inputs,
    y_ptr,
    sizes,
    rows: tl.constexpr,
    matrix_rows: tl.constexpr,
    pairs: tl.constexpr,
    group_pairs: tl.constexpr,
    is_interpreted: tl.constexpr,
):
    x_ptr, codes_ptr, scales_zeros_ptr = inputs
    num_rows, height, width, num_bytes = sizes
    row_M = tl.program_id(0) * rows + tl.arange(0, rows)
    row_N = tl.program_id(1) * matrix_rows + tl.arange(0, matrix_rows)
    is_row_M1, is_row_N1 = (row_M < num_rows)[:, None], (row_N < height)[:, None]
    sum_MN = tl.zeros([rows, matrix_rows], tl.float32)
    for first in range(0, num_bytes, pairs):
        pair_1J = first + tl.arange(0, pairs)[None, :]
        is_code = is_row_N1 & (pair_1J < num_bytes)
        both_NJ = tl.load(codes_ptr + row_N[:, None] * num_bytes + pair_1J, mask=is_code, other=0)
        scale_at = (pair_1J // group_pairs * height + row_N[:, None]) * 2
        scale_NJ = tl.load(scales_zeros_ptr + scale_at, mask=is_code, other=0.0).to(tl.float32)
        zero_NJ = tl.load(scales_zeros_ptr + scale_at + 1, mask=is_code, other=0.0).to(tl.float32)
        x_at = row_M[:, None] * width + 2 * pair_1J
        even_MJ = tl.load(x_ptr + x_at, mask=is_row_M1 & (2 * pair_1J < width), other=0.0)
        odd_MJ = tl.load(x_ptr + x_at + 1, mask=is_row_M1 & (2 * pair_1J + 1 < width), other=0.0)
        low_NJ = ((both_NJ & 15).to(tl.float32) - 8) * scale_NJ + zero_NJ
        high_NJ = ((both_NJ >> 4).to(tl.float32) - 8) * scale_NJ + zero_NJ
        sum_MN = _multiplied(even_MJ, low_NJ, sum_MN, is_interpreted)
        sum_MN = _multiplied(odd_MJ, high_NJ, sum_MN, is_interpreted)
    _store(y_ptr, sum_MN, row_M, row_N, num_rows, height)


@triton.jit
def _multiplied(x_MK, weight_NK, sum_MN, is_interpreted: tl.constexpr):
    """The sums with a product; Triton's interpreter multiplies no bfloat16."""
    if is_interpreted:
        x_MK = x_MK.to(tl.float32)
    else:
        weight_NK = weight_NK.to(x_MK.dtype)
    return tl.dot(x_MK, tl.trans(weight_NK), sum_MN, input_precision="ieee")


@triton.jit
def _store(y_ptr, y_MN, row_M, row_N, num_rows, height):
    y_at = row_M[:, None] * height + row_N[None, :]
    is_inside = (row_M < num_rows)[:, None] & (row_N < height)[None, :]
    tl.store(y_ptr + y_at, y_MN.to(y_ptr.dtype.element_ty), mask=is_inside)


def float8_rows(x_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Each row divided by a scale of its own, in float8; and the scales, M1."""
    num_rows, width = x_MK.shape
    x8_MK = torch.empty_like(x_MK, dtype=torch.float8_e4m3fn)
    scales_M1 = x_MK.new_empty(num_rows, 1, dtype=torch.float32)
    columns, limit = triton.next_power_of_2(width), limit_of(x8_MK.dtype)
    float8_rows_kernel[(num_rows,)](
        x_MK.contiguous(), x8_MK, scales_M1, width, columns, limit, SMALLEST_SCALE, num_warps=8
    )
    return x8_MK, scales_M1


@triton.jit
def float8_rows_kernel(
    x_ptr,
    x8_ptr,
    scales_ptr,
    width,
    columns: tl.constexpr,
    limit: tl.constexpr,
    smallest: tl.constexpr,
):
    row, column_K = tl.program_id(0).to(tl.int64), tl.arange(0, columns)
    is_column_K = column_K < width
    x_K = tl.load(x_ptr + row * width + column_K, mask=is_column_K, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.div_rn(tl.max(tl.abs(x_K), 0), limit), smallest)
    x_K = tl.div_rn(x_K, tl.broadcast_to(scale, x_K.shape))
    x_K = tl.minimum(tl.maximum(x_K, -limit), limit)
    tl.store(x8_ptr + row * width + column_K, x_K.to(x8_ptr.dtype.element_ty), mask=is_column_K)
    tl.store(scales_ptr + row, scale)


def _rows_of_program(num_rows: int) -> int:
    return min(MAX_ROWS, max(MIN_ROWS, triton.next_power_of_2(num_rows)))


def _is_interpreted() -> bool:
    return not isinstance(int8_linear_kernel, triton.JITFunction)
