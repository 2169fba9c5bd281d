"""Which attention backend serves what, and that the CPU's agree."""

import numpy as np
import pytest
import torch

from nightscribe.model import attention_backends, torch_private, triton_support
from nightscribe.model.kv_cache import KVCache, LayerKV
from nightscribe.model.transformer import Window, ring_mask


@pytest.fixture
def used_backends(monkeypatch):
    """The names of the backends that were called."""
    taken = []
    for name in ("_attend_sdpa", "_attend_on_cpu", "_attend_flash"):
        monkeypatch.setattr(attention_backends, name, lambda *args, name=name: taken.append(name))
    monkeypatch.setattr(
        attention_backends, "_attend_triton", lambda *args: taken.append("own kernel")
    )
    monkeypatch.setattr(attention_backends, "has_triton", lambda: True)
    monkeypatch.setattr(attention_backends, "_has_flash", lambda keys: keys.dtype == torch.bfloat16)
    return taken


def attend_on(device, dtype=torch.bfloat16, num_queries=1, block=1, backend=None):
    """Attention as a model asks for it, on a device that only knows shapes."""
    cache = KVCache.empty((1, 2, 3, 32 + num_queries - 1, 32), torch.device(device), dtype)
    sight = ring_mask(cache.advance(num_queries), Window(32, block), 3, backend=backend)
    queries = torch.zeros(2, 3, num_queries, 32, device=device)
    attention_backends.attend(queries, cache.keys.layer(0), cache.values.layer(0), sight)


def test_unmeasured_one_query_goes_to_our_kernel(used_backends):
    attend_on("meta")
    assert used_backends == ["own kernel"]


@pytest.mark.parametrize(
    ("backend", "used"),
    [("flash", "_attend_flash"), ("sdpa", "_attend_sdpa"), ("gone since", "own kernel")],
)
def test_the_backend_that_was_measured_to_be_the_fastest_is_used(used_backends, backend, used):
    attend_on("meta", backend=backend)
    assert used_backends == [used]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.float8_e4m3fn])
def test_numbers_that_flash_does_not_know_go_to_our_kernel(used_backends, dtype):
    attend_on("meta", dtype)
    assert used_backends == ["own kernel"]


def test_a_ring_with_entries_to_mask_goes_to_the_triton_kernel(used_backends):
    attend_on("meta", num_queries=4)
    assert used_backends == ["own kernel"]


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        # As in torch 2.8.
        ("torch_private.has_flash_by_length", lambda: False),
        ("FLASH_CAPABILITY", (9, 1)),
        ("FLASH_HEAD_DIM_MULTIPLE", 12),
    ],
)
def test_flash_is_asked_only_for_what_it_knows(monkeypatch, name, replaced):
    keys = LayerKV(torch.zeros(2, 3, 32, 16, dtype=torch.bfloat16))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert attention_backends._has_flash(keys)
    monkeypatch.setattr(f"nightscribe.model.attention_backends.{name}", replaced)
    assert not attention_backends._has_flash(keys)


def by_the_book(query, key, value, cu_q, cu_k, max_q, max_k, dropout_p, *flags, **kwargs):
    """What torch's flash attention does with sequences, one by one."""
    assert (dropout_p, flags, kwargs["num_splits"]) == (0.0, (False, False), 1)
    assert cu_q.dtype == cu_k.dtype == kwargs["seqused_k"].dtype == torch.int32
    starts_q, starts_k = cu_q.tolist(), cu_k.tolist()
    assert (max_q, max_k) == (max(np.diff(starts_q)), max(np.diff(starts_k)))
    said = torch.empty_like(query)
    for index, used in enumerate(kwargs["seqused_k"].tolist()):
        queries = slice(starts_q[index], starts_q[index + 1])
        held = slice(starts_k[index], starts_k[index] + used)
        mixed = (x.transpose(0, 1) for x in (query[queries], key[held], value[held]))
        said[queries] = torch.nn.functional.scaled_dot_product_attention(*mixed).transpose(0, 1)
    return said, None, None, None, None


def test_flash_is_given_what_each_row_holds_and_no_more(monkeypatch):
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", by_the_book)
    arguments = frozenset({"seqused_k", "num_splits"})
    monkeypatch.setattr(torch_private, "_flash_arguments", lambda: arguments)
    torch.manual_seed(0)
    cache = KVCache.empty((2, 5, 3, 32, 16), torch.device("cpu"), torch.bfloat16)
    everywhere = torch.arange(5)[:, None], torch.arange(32).expand(5, -1)
    for kept in (cache.keys, cache.values):
        kept.write(1, everywhere, torch.randn(5, 32, 3, 16))
    cache.next_positions_B.copy_(torch.tensor([0, 7, 31, 32, 450_000]))
    sight = ring_mask(cache.advance(1), Window(32), num_heads=3)
    queries = torch.randn(5, 3, 1, 16, dtype=torch.bfloat16)
    entries = cache.keys.layer(1), cache.values.layer(1)
    found = attention_backends._attend_flash(queries, *entries, sight)
    plain = attention_backends._attend_sdpa(queries, *entries, sight)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-2)


def test_without_triton_torch_serves(used_backends, monkeypatch):
    monkeypatch.setattr(attention_backends, "has_triton", lambda: False)
    attend_on("meta", torch.int8)
    assert used_backends == ["_attend_sdpa"]


def test_many_queries_and_blocks_of_them_go_to_torch(used_backends):
    attend_on("meta", num_queries=9)
    attend_on("cpu", num_queries=9)
    attend_on("meta", num_queries=2, block=2)
    assert used_backends == ["_attend_sdpa"] * 3


def test_a_cpu_never_uses_a_gpus_backends(used_backends):
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        attend_on("cpu", dtype)
    attend_on("cpu", num_queries=4)
    assert used_backends == ["_attend_on_cpu"] * 4


def test_what_the_triton_kernel_lacks_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(triton_support, "find_spec", lambda name: None)
    assert not triton_support.has_triton.__wrapped__()
    assert "Triton is not installed" in caplog.text


def test_the_triton_kernel_needs_a_compiler(monkeypatch, caplog):
    monkeypatch.setattr(triton_support, "find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert not triton_support.has_triton.__wrapped__()
    assert "no C compiler" in caplog.text


def few_queries(dtype, num_queries, lengths_B):
    torch.manual_seed(0)
    keys, values = (LayerKV(torch.randn(2, 3, 40, 16).to(dtype)) for _ in range(2))
    visible_BTC = torch.rand(2, num_queries, 40) < 0.5
    visible_BTC[:, :, 0] = True
    for visible_TC, reach in zip(visible_BTC, lengths_B, strict=True):
        visible_TC[:, reach:] = False
    queries_BHTE = torch.randn(2, 3, num_queries, 16).to(dtype)
    return (
        queries_BHTE,
        keys,
        values,
        attention_backends.AttentionMask(lambda: visible_BTC, lengths_B=lengths_B, num_heads=3),
    )


@pytest.mark.parametrize("num_queries", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("near", [0, attention_backends.MAX_CACHED_NUMBERS])
def test_few_queries_give_the_same_as_sdpa(monkeypatch, near, dtype, num_queries):
    monkeypatch.setattr(attention_backends, "MAX_CACHED_NUMBERS", near)
    asked = few_queries(dtype, num_queries, (40, 40))
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    few, many = attention_backends._attend_on_cpu(*asked), attention_backends._attend_sdpa(*asked)
    torch.testing.assert_close(few, many, rtol=0, atol=tolerance)


@pytest.mark.parametrize("num_queries", [1, 5])
def test_rows_of_unlike_lengths_are_read_one_by_one(monkeypatch, num_queries):
    monkeypatch.setattr(attention_backends, "MIN_SKIPPED_PER_ROW", 0)
    read = []
    mix_few = attention_backends._attend_streaming
    monkeypatch.setattr(
        attention_backends,
        "_attend_streaming",
        lambda *given: (read.append(given[1].data_BHCE.shape), mix_few(*given))[1],
    )
    asked = few_queries(torch.float32, num_queries, (40, 7))
    few, many = attention_backends._attend_on_cpu(*asked), attention_backends._attend_sdpa(*asked)
    torch.testing.assert_close(few, many, rtol=0, atol=1e-6)
    assert [shape[2] for shape in read] == [40, 7]
