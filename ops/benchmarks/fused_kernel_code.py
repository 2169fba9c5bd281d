"""The machine code of our fused kernels for GPUs that are not here: registers, spills, memory.

    python -m ops.benchmarks.fused_kernel_code 80,90,100
    python -m ops.benchmarks.fused_kernel_code here         for the GPU that is here

Kernels are called as the model calls them, at the sizes of the 1B model and of Mimi, and compiled
but not launched. The attention kernel has a command of its own, `ops.benchmarks.kernel_code`.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

# First, for the sake of Triton's settings.
from ops.benchmarks.kernel_code import Code, code_of, compiling

import torch  # isort: skip

from nightscribe.benchmarks.random_weights import config_of
from nightscribe.engine.config import EngineConfig
from nightscribe.model import fused_kernels, weight_kernels
from nightscribe.model.config import LanguageModelConfig
from nightscribe.model.device import set_tf32
from nightscribe.model.fused_codec import FusedMimi
from nightscribe.model.kv_cache import KVCache
from nightscribe.model.mimi import Mimi
from nightscribe.model.transformer import Frequencies, rotary_embedding

# What one program may use, in bytes, by capability: Turing, Ampere (A100), Hopper, Blackwell.
SHARED_BYTES = {75: 64 << 10, 80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
TENSOR_CORES, FLOAT8 = (80, 90, 100), (90, 100)  # of which Triton makes use
# As in a run: Triton compiles anew for a size of 1, and for multiples of 16.
NUM_SLOTS, NUM_ROWS, PIECES = 16, 2, (25, 13)
# As is usual, and the fastest. Without any, residual blocks take long to compile.
TF32 = "convolutions", "all"
CPU = torch.device("cpu")


def step_calls(model: LanguageModelConfig, dtype: torch.dtype) -> Iterator[Callable]:
    """Every kernel of a step of the language model beside attention."""
    x_BTD = torch.zeros(NUM_SLOTS, 1, model.dim, dtype=dtype)
    yield partial(fused_kernels.add_norm, x_BTD, x_BTD, x_BTD[0, 0], 1e-8)
    yield partial(fused_kernels.silu_mul, torch.zeros(NUM_SLOTS, 1, 2 * model.ffn_dim, dtype=dtype))
    for cache_dtype in (dtype, torch.int8):
        shape_LBHCE = (1, NUM_SLOTS, model.num_heads, model.context, model.head_dim)
        cache = KVCache.empty(shape_LBHCE, CPU, cache_dtype)
        qkv_BTXHE = torch.zeros(NUM_SLOTS, 1, 3, model.num_heads, model.head_dim, dtype=dtype)
        positions_BT = torch.zeros(NUM_SLOTS, 1, dtype=torch.int64)
        frequencies = Frequencies.of(model.head_dim, model.rope_max_period, CPU)
        rotations = rotary_embedding(positions_BT, frequencies)
        layers = cache.keys.layer(0), cache.values.layer(0)
        yield partial(fused_kernels.rotate_append, qkv_BTXHE, rotations, positions_BT, *layers)
    codes_BTK = torch.zeros(NUM_SLOTS, 1, model.num_codebooks, dtype=torch.int64)
    table = torch.zeros(9, model.dim, dtype=dtype)
    yield partial(fused_kernels.add_embeddings, table, codes_BTK, codes_BTK[..., 0], 1, dtype)
    logits_SV = torch.zeros(NUM_SLOTS, model.text_card)
    forced_S, last_S, step_1 = (torch.zeros(n, dtype=torch.int64) for n in (NUM_SLOTS,) * 2 + (1,))
    tables = (
        torch.zeros(PIECES[0], NUM_SLOTS, dtype=kind) for kind in (torch.int32, torch.float32)
    )
    yield partial(fused_kernels.write_likeliest, logits_SV, forced_S, step_1, last_S, *tables)


def weight_calls(model: LanguageModelConfig, dtype: torch.dtype) -> Iterator[Callable]:
    """Products of 256 slots with quantized weights."""
    x_MK, height = torch.zeros(256, model.dim, dtype=dtype), 3 * model.dim
    codes_NK = torch.zeros(height, model.dim, dtype=torch.int8)
    yield partial(weight_kernels.int8_linear, x_MK, codes_NK, torch.zeros(height, dtype=dtype))
    scales_zeros_GN2 = torch.zeros(model.dim // weight_kernels.GROUP, height, 2, dtype=dtype)
    packed_NK = codes_NK[:, ::2].contiguous().to(torch.uint8)
    yield partial(weight_kernels.int4_linear, x_MK, packed_NK, scales_zeros_GN2, model.dim)


def codec_calls() -> Iterator[Callable]:
    """A whole call of Mimi, which launches each of its kernels for every layer and rate."""
    mimi = Mimi(config_of("1b").mimi).eval().requires_grad_(False)
    state, rows = mimi.initial_state(NUM_ROWS, PIECES[0]), torch.zeros(NUM_ROWS, dtype=torch.int64)
    fused = FusedMimi(mimi)
    for tf32, num_frames in product(TF32, PIECES):
        num_samples = num_frames * mimi.config.frame_samples
        samples_RN = torch.zeros(NUM_ROWS, num_samples, dtype=torch.int16)
        yield partial(_rounded, tf32, fused.encode_slots, samples_RN, state, rows, rows, rows)


def _rounded(tf32: str, encode: Callable, *args: object) -> None:
    """With `engine.tf32` as given; Triton rounds products only where it says so."""
    set_tf32(tf32)
    try:
        encode(*args)
    finally:
        set_tf32(EngineConfig().tf32)


def codes_of(capability: int) -> Iterator[Code]:
    """Each kernel once for each of its forms."""
    dtype = torch.bfloat16 if capability >= 80 else torch.float16
    calls = list(step_calls(config_of("1b").language_model, dtype))
    if capability in TENSOR_CORES:
        calls += [*codec_calls(), *weight_calls(config_of("1b").language_model, dtype)]
    if capability in FLOAT8:
        calls.append(partial(weight_kernels.float8_rows, torch.zeros(1, 2048, dtype=dtype)))
    seen = set()
    for call in calls:
        with compiling(capability) as compiled, torch.inference_mode():
            call()
        for kernel in compiled:
            if kernel.hash not in seen:
                seen.add(kernel.hash)
                yield code_of(kernel)


def _numbers(capabilities: str) -> list[int]:
    if capabilities == "here":
        major, minor = torch.cuda.get_device_capability()
        return [10 * major + minor]
    return [int(one) for one in capabilities.split(",")]


def main(capabilities: str) -> None:
    _write("| kernel | sm | registers | spilled | shared KB |")
    _write("|---|--:|--:|--:|--:|")
    for capability in _numbers(capabilities):
        for code in codes_of(capability):
            cells = code.registers, code.spilled_bytes, f"{code.shared_bytes / 1024:.0f}"
            _write(f"| {code.kernel} | {capability} | {' | '.join(map(str, cells))} |")


def _write(line: str) -> None:
    """At once: on a GPU the script may end it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
