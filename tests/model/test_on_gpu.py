"""What only a GPU can show: graphs, flash attention, eight bits, a host that never waits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.engine.encoder_prefetch import EncoderPrefetch
from nightscribe.engine.loop import step_engine
from nightscribe.engine.scheduler import IterableSource, Scheduler
from nightscribe.engine.speculative import speculative_engine
from nightscribe.engine.stream import Stream
from nightscribe.model import attention_backends
from nightscribe.model.device import CACHE_DTYPES
from nightscribe.model.kv_cache import KVCache, LayerKV
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.step_runner import StepRunner
from nightscribe.model.transformer import Window, ring_mask

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
    # Triton 3.9 announces a change of its next version at its first compilation.
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]

GPU = torch.device("cuda")
TOY = config_of("toy")
# Heads as wide as our kernel needs.
CONFIG = replace(TOY, language_model=replace(TOY.language_model, dim=128))
ROUND_STEPS = 9
FRAMES = (50, 3, 61, 1, 30, 44, 12)  # the ring of 24 positions wraps twice
TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-1, "float8": 4e-1}


def capable_of(cache):
    if cache == "float8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no float8")


def speech_in(dtype):
    return random_speech(CONFIG, GPU, dtype)


def streams():
    for index, num_frames in enumerate(FRAMES):
        noise_N = np.random.default_rng(index).normal(0, 4000, num_frames * 1920)
        yield Stream(index, noise_N.clip(-32768, 32767).astype(np.int16), num_frames)


def outputs_of(model, wanted, reproducible=True):
    engine = step_engine(model, round_steps=ROUND_STEPS, reproducible=reproducible)
    return tokens_of(engine, wanted)


def tokens_of(engine, wanted):
    return {heard.stream.stream_id: heard.tokens_T.tolist() for heard in engine.run(wanted)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_captured_step_outputs_what_a_called_one_does(dtype):
    speech = speech_in(dtype)
    recorded, called = (
        outputs_of(
            StepRunner(speech, 16, ROUND_STEPS, RunnerOptions(use_graphs=use_graphs)), streams()
        )
        for use_graphs in (True, False)
    )
    assert recorded == called
    assert len({token for tokens in recorded.values() for token in tokens}) > 5


@pytest.mark.parametrize("cache", CACHE_DTYPES)
def test_alone_is_together_over_as_many_slots(cache):
    capable_of(cache)
    model = StepRunner(
        speech_in(torch.bfloat16),
        4,
        ROUND_STEPS,
        RunnerOptions(encode_rows=1, cache_dtype=CACHE_DTYPES[cache]),
    )
    together = outputs_of(model, streams())
    for stream in streams():
        assert outputs_of(model, [stream]) == {stream.stream_id: together[stream.stream_id]}


def test_alone_is_together_over_any_slots_in_fp32():
    speech = speech_in(torch.float32)
    one, many = (
        outputs_of(
            StepRunner(speech, slots, ROUND_STEPS, RunnerOptions(encode_rows=1)), streams(), False
        )
        for slots in (1, 16)
    )
    assert one == many


def ring(dtype, num_queries):
    """Rows with few, many and all entries of the ring in use; width of the 1B model."""
    torch.manual_seed(0)
    shape = (1, 4, 16, 750 + num_queries - 1, 128)
    cache = KVCache.empty(shape, GPU, dtype)
    rows_B1 = torch.arange(4, device=GPU)[:, None]
    everywhere = rows_B1, torch.arange(cache.capacity, device=GPU).expand(4, -1)
    for kept in (cache.keys, cache.values):
        kept.write(0, everywhere, torch.randn(4, cache.capacity, 16, 128, device=GPU))
    cache.next_positions_B.copy_(torch.tensor([0, 255, 749, 450_000]))
    sight = ring_mask(cache.advance(num_queries), Window(750), num_heads=16)
    queries = torch.randn(4, 16, num_queries, 128, device=GPU, dtype=torch.bfloat16)
    return queries, cache.keys.layer(0), cache.values.layer(0), sight


def in_float32(queries, keys, values, sight):
    """The reference: the same entries, widened and computed in fp32 throughout."""
    keys, values = (LayerKV(x.dequantized(torch.float32).float()) for x in (keys, values))
    return attention_backends._attend_sdpa(queries.float(), keys, values, sight)


def assert_within_an_ulp(found, wanted):
    """Of the output's dtype, and of numbers as large as values are where the output is small."""
    ulp = torch.finfo(found.dtype).eps
    torch.testing.assert_close(found.float(), wanted, rtol=ulp, atol=ulp)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_attention_agrees_with_sdpa(dtype):
    queries, keys, values, sight = ring(dtype, num_queries=1)
    if not attention_backends._has_flash(keys):
        pytest.skip("this torch or this GPU has no flash attention by length")
    found = attention_backends._attend_flash(queries, keys, values, sight)
    assert_within_an_ulp(found, in_float32(queries, keys, values, sight))


@pytest.mark.parametrize("num_queries", [1, 4])
@pytest.mark.parametrize("cache", CACHE_DTYPES)
def test_the_triton_kernel_agrees_with_sdpa(cache, num_queries):
    capable_of(cache)
    queries, keys, values, sight = ring(CACHE_DTYPES[cache], num_queries)
    assert attention_backends.has_triton()
    found = attention_backends._attend_triton(queries, keys, values, sight)
    assert_within_an_ulp(found, in_float32(queries, keys, values, sight))


@pytest.mark.parametrize("cache", TOLERANCES)
def test_a_cache_of_fewer_bits_moves_logits_little(cache):
    capable_of(cache)
    model = speech_in(torch.float32).language_model
    codes = torch.randint(0, 64, (3, 60, model.config.num_codebooks), device=GPU)
    text = torch.randint(0, 100, (3, 60), device=GPU)
    logits = {}
    for name in ("float32", cache):
        ring_cache = model.empty_cache(3, dtype=CACHE_DTYPES[name])
        never = torch.zeros(3, dtype=torch.bool, device=GPU)
        steps = zip(codes.split(1, 1), text.split(1, 1), strict=True)
        logits[name] = torch.cat([model.extend(*s, ring_cache, never).logits_STV for s in steps], 1)
    moved = (logits[cache] - logits["float32"]).abs().max()
    assert moved <= TOLERANCES[cache] * logits["float32"].std()


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize("cache", ["bfloat16", "int8"])
def test_the_host_never_waits_inside_a_round(cache, use_graphs):
    model = StepRunner(
        speech_in(torch.bfloat16),
        8,
        ROUND_STEPS,
        RunnerOptions(use_graphs=use_graphs, cache_dtype=CACHE_DTYPES[cache]),
    )
    outputs_of(model, streams())  # what is chosen or compiled once, is before
    planned = Scheduler(model.bucket_sizes, ROUND_STEPS).plan(IterableSource(streams()), wait=True)
    chunk, steps = EncoderPrefetch(model.frame_samples, ROUND_STEPS).prepare(planned)
    torch.cuda.set_sync_debug_mode("error")
    try:
        said = model.run(steps, [model.encode(chunk)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert said.wait().tokens_TS.any()


@pytest.mark.parametrize("use_graphs", [True, False])
def test_speculative_rounds_output_what_single_steps_do(use_graphs):
    speech = speech_in(torch.float32)
    leaping = SpeculativeRunner(speech, 4, 3, 3, RunnerOptions(use_graphs=use_graphs))
    single = outputs_of(StepRunner(speech, 4, ROUND_STEPS, RunnerOptions(encode_rows=1)), streams())
    assert tokens_of(speculative_engine(leaping), streams()) == single
