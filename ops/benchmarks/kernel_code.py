"""The machine code of our kernels for GPUs that are not here: instructions, registers, spills.

    python -m ops.benchmarks.kernel_code FIGURES.md

Kernels are called as the model calls them, with tensors of the 1B and 2.6B sizes, and compiled but
not launched. NVIDIA's `cuobjdump`, which comes with Triton, disassembles them. Instructions are
those of the innermost loop, as if 4 warps shared 32 entries.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

os.environ.pop("TRITON_INTERPRET", None)  # before Triton is imported

import torch
import triton
from triton.backends.compiler import GPUTarget

from nightscribe.model import attention_kernel
from nightscribe.model.kv_cache import EIGHT_BITS, KVCache

DISASSEMBLER = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
CANDIDATES = [
    attention_kernel.Tile(*sizes)
    for sizes in ((32, 2, 3), (32, 4, 3), (64, 2, 3), (64, 4, 3), (64, 8, 3), (128, 4, 3))
]
WARP_SIZE = 32
SIZES = {"1B": (16, 128, 750), "2.6B": (32, 64, 375)}  # heads, head dimension, context
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(.*?);")
BRANCH = re.compile(r"\bBRA\b.*?(0x[0-9a-f]+)")


class Code(NamedTuple):
    """What one kernel compiles to."""

    kernel: str
    num_warps: int
    registers: int
    spilled_bytes: int  # of a thread
    shared_bytes: int
    loops: tuple[int, ...]  # instructions of each, the innermost first


class _Driver:
    """A GPU of some capability that compiles and never runs."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, WARP_SIZE)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        """Triton remembers the target of each device."""
        return self._target.arch

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(capability: int) -> Iterator[list]:
    """Launches inside compile only; gives the kernels that would have been launched."""
    compiled: list = []
    launch = triton.JITFunction.run

    def compile_only(self, *args, grid, warmup, **kwargs):
        compiled.append(launch(self, *args, grid=grid, warmup=True, **kwargs))

    triton.runtime.driver.set_active(_Driver(capability))
    triton.JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        triton.JITFunction.run = launch


def code_of(kernel) -> Code:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        assembly, usage = (
            subprocess.run(
                [DISASSEMBLER, option, file.name], capture_output=True, text=True, check=True
            ).stdout
            for option in ("-sass", "-res-usage")
        )
    registers, spilled = (int(re.search(rf"{x}:(\d+)", usage)[1]) for x in ("REG", "STACK"))
    warps, shared = kernel.metadata.num_warps, kernel.metadata.shared
    return Code(kernel.metadata.name, warps, registers, spilled, shared, _loops(assembly))


def _loops(assembly: str) -> tuple[int, ...]:
    """Instructions of every loop: from a branch backwards to where it goes."""
    found = [(int(address, 16), text) for address, text in INSTRUCTION.findall(assembly)]
    addresses = [address for address, _ in found]
    branches = [(at, BRANCH.search(text)) for at, text in found]
    targets = [(at, int(branch[1], 16)) for at, branch in branches if branch]
    sizes = (sum(to <= x <= at for x in addresses) for at, to in targets if to < at)
    return tuple(sorted(sizes))


def attention_code(
    size: str,
    dtype: torch.dtype,
    capability: int,
    num_queries: int = 1,
    tile: attention_kernel.Tile | None = None,
    is_split: bool = False,
) -> list[Code]:
    """Code of the attention of one layer."""
    num_heads, width, context = SIZES[size]
    shape_LBHCE = (1, 1, num_heads, context + num_queries - 1, width)
    cache = KVCache.empty(shape_LBHCE, torch.device("cpu"), dtype)
    computed = dtype if dtype not in EIGHT_BITS else torch.bfloat16
    queries = torch.zeros(1, num_queries, num_heads, width, dtype=computed).transpose(1, 2)
    layers = cache.keys.layer(0), cache.values.layer(0)
    with _gpu_like(capability, is_split), compiling(capability) as compiled:
        attention_kernel.attend_ring(queries, *layers, cache.next_positions_B, context, tile=tile)
    return [code_of(kernel) for kernel in compiled]


@contextmanager
def _gpu_like(capability: int, is_split: bool) -> Iterator[None]:
    with (
        patch.object(
            attention_kernel, "_num_programs_that_fill", lambda device: 1 << 30 if is_split else 0
        ),
        patch.object(attention_kernel, "has_tensor_cores", lambda device: capability >= 80),
    ):
        yield


def per_32_entries(code: Code, block: int) -> float:
    """Instructions of the innermost loop, as if 4 warps shared 32 entries."""
    return code.loops[0] * (code.num_warps / 4) * (32 / block)


def attention_table() -> Iterator[str]:
    yield "| model | cache | queries | block, warps, stages | instructions | registers | spilled |"
    yield "|---|---|--:|---|--:|--:|--:|"
    cases = product(SIZES, (torch.bfloat16, *EIGHT_BITS), (1, 4), CANDIDATES)
    for size, dtype, num_queries, tile in cases:
        (code,) = attention_code(size, dtype, 90, num_queries, tile)
        is_chosen = tile == attention_kernel.TILES[dtype.itemsize]
        columns = ", ".join(map(str, tile)) + (" *" if is_chosen else "")
        counts = f"{per_32_entries(code, tile.block):.0f} | {code.registers} | {code.spilled_bytes}"
        yield f"| {size} | {str(dtype)[6:]} | {num_queries} | {columns} | {counts} |"


if __name__ == "__main__":
    lines = (f"Triton {triton.__version__}, sm_90. *: the tile in use.", "", *attention_table())
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n")
