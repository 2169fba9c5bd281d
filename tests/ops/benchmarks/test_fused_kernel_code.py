"""Every kernel of ours compiles for GPUs that are not here and fits them."""

import os
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("triton", reason="triton is not installed: nothing was compiled")

# In a process of its own: in this one, Triton interprets.
CODE = """
import sys
from ops.benchmarks.fused_kernel_code import SHARED_BYTES, codes_of

for code in codes_of(int(sys.argv[1])):
    fits = code.shared_bytes <= SHARED_BYTES[int(sys.argv[1])]
    print(code.kernel, code.registers, code.spilled_bytes, fits)
"""
STEP = {"add_norm_kernel", "silu_mul_kernel", "rotate_append_kernel", "add_embeddings_kernel"}
CODEC = {"residual_tile", "attend_slots_kernel", "join_past_kernel", "nearest_entry"}
WEIGHTS = {"int8_linear_kernel", "int4_linear_kernel"}
KERNELS = {
    75: STEP,
    80: STEP | CODEC | WEIGHTS,
    90: STEP | CODEC | WEIGHTS | {"float8_rows_kernel"},
}
KERNELS[100] = KERNELS[90]
ROUNDED_AND_EXACT = 2  # products of Mimi's attention


@pytest.mark.slow
@pytest.mark.parametrize("capability", [75, 80, 90, 100])
def test_kernels_compile_spill_nothing_and_fit_the_shared_memory(capability, tmp_path):
    real = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(capability)],
        env=real | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    codes = [line.split() for line in ran.stdout.splitlines()]
    found = Counter(code[0] for code in codes)
    assert found.keys() >= KERNELS[capability], ran.stderr
    if "attend_slots_kernel" in KERNELS[capability]:
        assert found["attend_slots_kernel"] == ROUNDED_AND_EXACT, found
    for kernel, _, spilled, fits in codes:
        assert fits == "True", kernel
        assert spilled == "0", kernel
