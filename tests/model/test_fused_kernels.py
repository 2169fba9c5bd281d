"""The fused kernels give what torch's operators give, and a step is few kernels.

Without a GPU the kernels run in Triton's interpreter.
"""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.engine.interface import HOLD, NO_TOKEN
from nightscribe.model import (
    attention_backends,
    cpu_weights,
    language_model,
    step_runner,
    transformer,
)
from nightscribe.model.cuda_graphs import GraphKey
from nightscribe.model.kv_cache import EIGHT_BITS, KVCache
from nightscribe.model.sampling import probabilities_of
from nightscribe.model.step_runner import StepRunner
from tests.model.fake_cuda import made_by, written_by

pytest.importorskip("triton", reason="triton is not installed: our kernels were not run")

from nightscribe.model import attention_kernel, fused_kernels

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CPU = torch.device("cpu")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def noise(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype)


def assert_within_an_ulp(found, wanted):
    """Two, since Triton's interpreter cuts bfloat16 off instead of rounding it."""
    assert found.dtype == wanted.dtype
    ulp = torch.finfo(wanted.dtype).eps
    torch.testing.assert_close(found, wanted, rtol=2 * ulp, atol=2 * ulp)


@pytest.mark.parametrize(
    ("residual", "branch"), [*((x, x) for x in FLOATS), (FLOATS[0], FLOATS[2])]
)
def test_residual_and_norm(residual, branch):
    x, added = noise(3, 2, 48, dtype=residual), noise(3, 2, 48, dtype=branch).flip(0)
    norm = transformer.RMSNorm(48, 1e-5).to(DEVICE, branch)
    norm.scale_D.data = noise(48, dtype=branch)
    found = fused_kernels.add_norm(x, added, norm.scale_D, norm.eps)
    assert_within_an_ulp(found[0], x + added)
    assert_within_an_ulp(found[1], norm(found[0]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_silu_and_product(dtype):
    gate, up = noise(3, 1, 2 * 1500, dtype=dtype).chunk(2, dim=-1)
    found = fused_kernels.silu_mul(torch.cat((gate, up), dim=-1))
    assert_within_an_ulp(found, F.silu(gate) * up)


@pytest.mark.parametrize("cache_dtype", [*FLOATS, *EIGHT_BITS])
@pytest.mark.parametrize("num_queries", [1, 3])
def test_rotation_and_append(cache_dtype, num_queries):
    dtype = torch.bfloat16 if cache_dtype in EIGHT_BITS else cache_dtype
    qkv = noise(4, num_queries, 3, 2, 32, dtype=dtype)
    written = []
    for is_fused in (True, False):  # in this order: `rotate` is in place
        cache = KVCache.empty((2, 4, 2, 9, 32), DEVICE, cache_dtype)
        cache.next_positions_B.copy_(torch.tensor([0, 7, 8, 450_000]))
        ring = cache.advance(num_queries)
        rotations = transformer.rotary_embedding(
            ring.positions_BT, transformer.Frequencies.of(32, 1e5, DEVICE)
        )
        if is_fused:
            kv = cache.keys.layer(1), cache.values.layer(1)
            queries = fused_kernels.rotate_append(qkv, rotations, ring.positions_BT, *kv)
        else:
            queries, keys = transformer.rotate(qkv[:, :, :2], rotations).unbind(2)
            cache.extend(1, keys, qkv[:, :, 2], ring)
        kv = cache.keys.layer(1), cache.values.layer(1)
        assert all(x.data_BHCE.float().any() for x in kv)
        written.append((queries, *(x.dequantized(torch.float32).float() for x in kv)))
    for wanted, found in zip(*written, strict=True):
        rtol = 2**-3 if cache_dtype == torch.float8_e4m3fn else 2 * torch.finfo(dtype).eps
        atol = wanted.abs().max() / 64 if cache_dtype in EIGHT_BITS else rtol
        is_close = torch.isclose(found, wanted, rtol=rtol, atol=float(atol))
        # Triton's interpreter halves what float8 rounds up to a power of two.
        assert is_close.float().mean() > (0.97 if cache_dtype == torch.float8_e4m3fn else 0.9999)


@pytest.mark.parametrize("dtype", FLOATS)
def test_embeddings(dtype):
    torch.manual_seed(0)
    embedding = language_model.JoinedEmbedding(config_of("toy").language_model).to(DEVICE, dtype)
    num_codebooks = embedding.first_text_row // embedding.rows_per_codebook
    codes = torch.randint(0, embedding.rows_per_codebook, (3, 2, num_codebooks), device=DEVICE)
    text = torch.randint(0, 30, (3, 2), device=DEVICE)
    rows_per_codebook = embedding.rows_per_codebook
    found = fused_kernels.add_embeddings(
        embedding.table.weight, codes, text, rows_per_codebook, dtype
    )
    exact = embedding.table(embedding.rows(codes, text)).double().sum(dim=-2)
    assert_within_an_ulp(found, exact.to(dtype))


def test_the_likeliest_or_the_forced_token_and_its_probability():
    logits = 4 * noise(5, 300)
    logits[1, 17] = logits[1, 250] = logits.max() + 1  # of equal ones the first
    forced = torch.tensor([NO_TOKEN, NO_TOKEN, 9, HOLD, 299])
    last_tokens, tokens = torch.full_like(forced, 8), torch.zeros(3, 6, dtype=torch.int32)
    confidences, step = torch.zeros(3, 6), torch.tensor([1])
    outputs = [x.to(DEVICE) for x in (last_tokens, tokens, confidences)]
    forced = forced.to(DEVICE)
    fused_kernels.write_likeliest(logits, forced, step.to(DEVICE), *outputs)
    wanted = torch.where(forced < 0, logits.argmax(-1), forced)
    wanted[3] = 8
    assert wanted[1] == 17
    assert torch.equal(outputs[0], wanted)
    assert torch.equal(outputs[1][1, :5], wanted.int())
    torch.testing.assert_close(outputs[2][1, :5], probabilities_of(wanted, logits))
    for table in outputs[1:]:
        assert not table[[0, 2]].any()
        assert not table[1, 5]


class Counting(TorchDispatchMode):
    """Counts operators that compute, each a kernel on a GPU."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        if "empty" not in str(func):
            changed = *made_by(given, args, kwargs), *written_by(func, args, kwargs or {})
            self.names.extend([str(func)] if changed else [])
        return given


class Launched:
    """A kernel that is only counted."""

    def __init__(self, name, names):
        self.name, self.names = name, names

    def __getitem__(self, grid):
        return lambda *args, **kwargs: self.names.append(self.name)


KERNELS = {
    fused_kernels: [name for name in vars(fused_kernels) if name.endswith("_kernel")],
    attention_kernel: ["attend_spans", "merge_spans"],
}


def norm_of_a_gpu(norm, x):
    return transformer._fused_rms_norm(x, norm.scale_D, norm.eps)


def kernels_of_a_step(monkeypatch, num_layers):
    """Of the 1B model's step over few slots, as a GPU would run it."""
    toy = config_of("toy")
    sizes = {"dim": 64, "num_layers": num_layers, "context": 600}
    model = replace(toy.language_model, **sizes, num_vad_heads=4, vad_head_dim=6)
    config = replace(toy, language_model=model)
    monkeypatch.setattr(cpu_weights, "_is_packable", lambda weight: False)
    runner = StepRunner(random_speech(config, CPU, torch.bfloat16), 8, 3)
    counting = Counting()
    for module, names in KERNELS.items():
        for name in names:
            monkeypatch.setattr(module, name, Launched(name, counting.names))
    for module in (transformer, language_model, step_runner):
        monkeypatch.setattr(module, "uses_kernels", lambda x: True)
    monkeypatch.setattr(transformer.RMSNorm, "forward", norm_of_a_gpu)
    monkeypatch.setattr(attention_kernel, "is_interpreted", lambda: False)
    monkeypatch.setattr(attention_kernel, "has_tensor_cores", lambda device: True)
    monkeypatch.setattr(attention_kernel, "_num_programs_that_fill", lambda device: 1 << 30)
    by_kernel = iter([("triton", attention_backends._attend_triton)] * 99)
    monkeypatch.setattr(attention_backends, "backends", lambda keys, mask: by_kernel)
    with torch.inference_mode():
        runner._step(GraphKey(8, True), None)  # what is computed once, is before
        counting.names.clear()
        with counting:
            runner._step(GraphKey(8, True), None)
    return counting.names


def test_a_step_is_few_kernels(monkeypatch):
    with monkeypatch.context() as patch:
        few = kernels_of_a_step(patch, 1)
    many = kernels_of_a_step(monkeypatch, 3)
    per_layer = (len(many) - len(few)) / 2
    assert per_layer <= 10, many
    assert len(few) - per_layer <= 20, few
    assert {"attend_spans", "rotate_append_kernel", "write_likeliest_kernel"} <= set(few)
