"""The Triton kernel agrees with SDPA; without a GPU it runs in Triton's interpreter."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from nightscribe.model import attention_backends
from nightscribe.model.kv_cache import EIGHT_BITS, KVCache, RingPositions
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.transformer import Window, ring_mask
from tests.model.reference import SMALL_LANGUAGE_MODEL

pytest.importorskip("triton", reason="triton is not installed: our kernel was not run")

from nightscribe.model import attention_kernel

# Triton 3.9 announces a change of its next version at its first compilation.
pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, *EIGHT_BITS)
HEADS, WIDTH = 2, 32
# Queries and weights are rounded to what a matrix product takes: fp16 for 8-bit entries.
ATOL = {torch.float32: 2e-6, torch.bfloat16: 1e-2} | dict.fromkeys(DTYPES[2:], 1e-3)


@pytest.fixture(autouse=True)
def _many_spans_in_a_small_ring(monkeypatch):
    monkeypatch.setattr(attention_kernel, "SPAN", 32)
    small = attention_kernel.Tile(16, 4, 2)
    monkeypatch.setattr(attention_kernel, "TILES", {1: small, 2: small})
    monkeypatch.setattr(attention_kernel, "TILE_WITHOUT_TENSOR_CORES", small)
    monkeypatch.setattr(attention_kernel, "_num_programs_that_fill", lambda device: 5)


def ring(
    next_positions, context, num_queries, dtype=torch.float32, width=WIDTH
) -> tuple[KVCache, RingPositions]:
    """A ring full of noise, its rows at these positions, and the places of the next queries."""
    torch.manual_seed(len(next_positions) + context)
    shape = (1, len(next_positions), HEADS, context + num_queries - 1, width)
    cache = KVCache.empty(shape, DEVICE, dtype)
    rows = torch.arange(shape[1], device=DEVICE)[:, None]
    everywhere = rows, torch.arange(cache.capacity, device=DEVICE).expand(shape[1], -1)
    for kept in (cache.keys, cache.values):
        kept.write(0, everywhere, torch.randn(shape[1], cache.capacity, HEADS, width).to(DEVICE))
    cache.next_positions_B.copy_(torch.tensor(next_positions))
    return cache, cache.advance(num_queries)


def both(cache, places, context, queries_dtype=torch.float32):
    """What the kernel and the plain way make of the same queries, the latter in fp32."""
    num_queries = places.positions_BT.shape[1]
    rows, heads, _, width = cache.keys.layer(0).data_BHCE.shape
    queries_BHTE = torch.randn(rows, num_queries, heads, width).to(DEVICE, queries_dtype)
    queries_BHTE = queries_BHTE.transpose(1, 2)
    entries = cache.keys.layer(0), cache.values.layer(0)
    sight = ring_mask(places, Window(context), HEADS)
    keys, values = (type(x)(x.dequantized(torch.float32).float()) for x in entries)
    wanted = attention_backends._attend_sdpa(queries_BHTE.float(), keys, values, sight)
    assert sight.newest_B is not None
    return attention_kernel.attend_ring(queries_BHTE, *entries, sight.newest_B, context), wanted


def assert_close(found_and_wanted, atol=2e-6):
    found, wanted = found_and_wanted
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("context", [1, 7, 33, 70])
def test_every_length_is_read_to_its_end_and_no_further(context):
    lengths = sorted({0, 1, 15, 16, 31, 32, 33, context - 1, context, 3 * context + 5})
    assert_close(both(*ring(lengths, context, 1), context))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [32, 128])
def test_every_number_is_widened_as_meant(dtype, width):
    cache, places = ring([5, 1000], 40, 1, dtype, width)
    assert_close(both(cache, places, 40), ATOL[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_answer_comes_in_the_numbers_of_the_question(dtype):
    cache, places = ring([0, 5, 70], 40, 1, dtype)
    found, wanted = both(cache, places, 40, dtype)
    assert found.dtype == dtype
    assert_close((found, wanted), atol=1e-2)


@pytest.mark.parametrize("num_queries", [2, 5])
@pytest.mark.parametrize("context", [1, 45])
def test_each_of_several_queries_sees_its_own_window(num_queries, context):
    positions = [0, context - 1, 7 * context + 3]
    assert_close(both(*ring(positions, context, num_queries), context))


def test_far_positions_wrap_as_near_ones():
    assert_close(both(*ring([450_000, 2_000_000], 30, 3), 30))


def test_rows_cut_out_of_a_larger_ring_are_found():
    cache, _ = ring([3, 9, 50, 31], 32, 1, torch.int8)
    cache = cache.first(3)
    assert_close(both(cache, cache.advance(1), 32), ATOL[torch.int8])


def test_neighbours_change_no_bit_of_a_row():
    cache, places = ring([3, 69, 5000], 70, 1)
    entries = cache.keys.layer(0), cache.values.layer(0)
    queries = torch.randn(3, HEADS, 1, WIDTH).to(DEVICE)
    newest_B = places.positions_BT[:, -1]
    together = attention_kernel.attend_ring(queries, *entries, newest_B, 70)
    keys, values = entries
    alone = [
        attention_kernel.attend_ring(
            queries[row], keys.first(row, 70), values.first(row, 70), newest_B[row], 70
        )
        for row in (slice(row, row + 1) for row in range(3))
    ]
    assert torch.equal(together, torch.cat(alone))


def test_entries_of_a_previous_stream_are_masked():
    cache, places = ring([4, 4], 32, 1)
    keys, values = cache.keys.layer(0), cache.values.layer(0)
    values.data_BHCE[1] = values.data_BHCE[0]
    keys.data_BHCE[1] = keys.data_BHCE[0]
    values.data_BHCE[1, :, 5:] = 1e6
    queries = torch.randn(1, HEADS, 1, WIDTH).to(DEVICE).expand(2, -1, -1, -1)
    mixed = attention_kernel.attend_ring(queries, keys, values, places.positions_BT[:, -1], 32)
    assert torch.equal(mixed[0], mixed[1])


def test_a_model_that_uses_it_outputs_the_same_tokens_across_the_wrap(monkeypatch):
    torch.manual_seed(0)
    model = LanguageModel(replace(SMALL_LANGUAGE_MODEL, num_heads=2)).eval()
    codes_STK, text_ST = torch.randint(0, 50, (2, 6, 5)), torch.randint(0, 50, (2, 6))
    logits = []
    for _ in range(2):
        cache = model.empty_cache(2, 3)
        cache.next_positions_B.copy_(torch.tensor([0, SMALL_LANGUAGE_MODEL.context - 2]))
        never_S = torch.zeros(2, dtype=torch.bool)
        for piece in range(2):
            span = slice(3 * piece, 3 * piece + 3)
            said = model.extend(codes_STK[:, span], text_ST[:, span], cache, never_S)
        logits.append(said.logits_STV)
        monkeypatch.setattr(attention_backends, "_attend_on_cpu", _by_our_kernel)
    torch.testing.assert_close(*logits, rtol=0, atol=1e-4)
    assert not torch.equal(*logits)


def _by_our_kernel(queries_BHTE, keys, values, sight):
    return attention_kernel.attend_ring(queries_BHTE, keys, values, sight.newest_B, sight.context)


CODE = """
import sys
import torch
from ops.benchmarks.kernel_code import attention_code, per_32_entries
from nightscribe.model.attention_kernel import TILE_WITHOUT_TENSOR_CORES, TILES

for word in sys.argv[1:]:
    capability, name, num_queries = word.split(",")
    dtype = getattr(torch, name)
    (code,) = attention_code("1B", dtype, int(capability), int(num_queries))
    has_tensor_cores = int(capability) >= 80
    block = (TILES[dtype.itemsize] if has_tensor_cores else TILE_WITHOUT_TENSOR_CORES).block
    count = per_32_entries(code, block)
    print(capability, name, round(count), code.registers, code.spilled_bytes)
print(*(code.kernel for code in attention_code("2.6B", torch.bfloat16, 90, is_split=True)))
"""
# Compute capability, numbers in the ring, queries at once. One without tensor cores and one for
# each number of bytes of an entry; the others are told apart by the compiler alone.
SOME_KINDS = ("75,int8,1", "90,bfloat16,1", "90,float8_e4m3fn,4")
ALL_KINDS = (
    *("75,float16,1", "75,int8,1", "80,bfloat16,4", "90,bfloat16,1", "90,int8,1"),
    *("90,float8_e4m3fn,1", "90,float8_e4m3fn,4", "100,bfloat16,1", "100,float8_e4m3fn,1"),
)
MAX_INSTRUCTIONS = {"bfloat16": 320, "int8": 300, "float8_e4m3fn": 260}
MAX_REGISTERS = 128  # leave room for four programs of four warps on a multiprocessor


@pytest.mark.parametrize(
    "kinds", [SOME_KINDS, pytest.param(ALL_KINDS, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_it_compiles_for_gpus_that_are_not_here_to_few_instructions(tmp_path, kinds):
    real = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [sys.executable, "-c", CODE, *kinds],
        env=real | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    *codes, kernels = ran.stdout.splitlines() or [ran.stderr]
    assert kernels == "attend_spans merge_spans", kernels
    assert len(codes) == len(kinds)
    for code in codes:
        capability, dtype, *figures = code.split()
        instructions, registers, spilled = map(int, figures)
        assert spilled == 0, code
        if int(capability) >= 90:  # whose memory is fast enough for the count to matter
            assert instructions <= MAX_INSTRUCTIONS[dtype], code
            assert registers <= MAX_REGISTERS, code
