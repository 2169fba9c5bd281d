"""The KV cache in fewer bits: the laws of the ring hold, and little precision is lost."""

import numpy as np
import pytest
import torch

from nightscribe.engine.config import KV_CACHE_DTYPES, EngineConfig
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream
from nightscribe.model.device import CACHE_DTYPES, cache_dtype_of
from nightscribe.model.kv_cache import EIGHT_BITS, CacheTensors, LayerKV, quantize
from nightscribe.model.memory_budget import memory_budget
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.precision import Precision
from nightscribe.model.step_runner import StepRunner
from tests.model.reference import SMALL_LANGUAGE_MODEL, random_pair

pytest.importorskip("moshi")

FRAME = 1920
CONTEXT = SMALL_LANGUAGE_MODEL.context
NAMES = tuple(CACHE_DTYPES)
# How far logits of a random model may move, in standard deviations of its logits.
TOLERANCES = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2, "int8": 5e-2, "float8": 2e-1}


@pytest.fixture(scope="module")
def speech():
    return random_pair().ours


@pytest.fixture(scope="module")
def heard():
    """Codes and texts of three slots, for twice the window and some."""
    generator = torch.Generator().manual_seed(1)
    shape_ST = (3, 2 * CONTEXT + 7)
    codes_STK = torch.randint(
        0, SMALL_LANGUAGE_MODEL.audio_card, (*shape_ST, 5), generator=generator
    )
    text_ST = torch.randint(0, SMALL_LANGUAGE_MODEL.text_card, shape_ST, generator=generator)
    return codes_STK, text_ST


def logits_of(model, heard, dtype, slots=slice(None), width=1):
    codes_STK, text_ST = (table[slots] for table in heard)
    cache = model.empty_cache(len(text_ST), width, dtype)
    never_S = torch.zeros(len(text_ST), dtype=torch.bool)
    samples = zip(codes_STK.split(width, 1), text_ST.split(width, 1), strict=True)
    return torch.cat(
        [model.extend(codes, text, cache, never_S).logits_STV for codes, text in samples], 1
    )


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("loudness", [1e-3, 1.0, 1e3])
def test_a_vector_loses_at_most_half_a_step(dtype, loudness):
    x_BTHE = torch.randn(2, 5, 3, 64) * loudness
    numbers, scales = quantize(x_BTHE, dtype)
    back = LayerKV(numbers, scales).dequantized(torch.float32)
    largest = x_BTHE.abs().amax(-1, keepdim=True)
    step = largest / 127 if dtype == torch.int8 else (x_BTHE.abs() / 8).clamp_min(largest * 1e-5)
    assert ((back - x_BTHE).abs() <= 0.51 * step).all()
    assert numbers.dtype == dtype


def test_a_vector_of_nothing_stays_nothing():
    for dtype in EIGHT_BITS:
        assert (
            not LayerKV(*quantize(torch.zeros(1, 1, 1, 8), dtype)).dequantized(torch.float32).any()
        )


@pytest.mark.parametrize("name", NAMES)
def test_logits_past_the_wrap_are_nearly_those_of_the_full_cache(speech, heard, name):
    full = logits_of(speech.language_model, heard, torch.float32)
    found = logits_of(speech.language_model, heard, CACHE_DTYPES[name])
    assert (found - full).abs().max() <= TOLERANCES[name] * full.std()
    if name != "float32":
        assert not torch.equal(found, full)


@pytest.mark.parametrize("name", NAMES)
def test_several_positions_at_once_are_as_one_by_one(speech, heard, name):
    one_by_one = logits_of(speech.language_model, heard, CACHE_DTYPES[name])
    at_once = logits_of(speech.language_model, heard, CACHE_DTYPES[name], width=5)
    # Where a sum falls between two steps of eight bits, another order of additions may take
    # the other one.
    assert (one_by_one - at_once).abs().mean() <= 0.1 * TOLERANCES[name] * one_by_one.std()


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_never_change_a_slot(speech, heard, name):
    together = logits_of(speech.language_model, heard, CACHE_DTYPES[name])
    alone = logits_of(speech.language_model, heard, CACHE_DTYPES[name], slice(1, 2))
    most = TOLERANCES[name] * alone.std()
    assert (together[1:2] - alone).abs().max() <= most
    # How many rows a product has may change the order of its additions, and so the last bits.
    first, second = alone.topk(2).values.unbind(-1)
    is_clear = first - second > most
    assert is_clear.float().mean() > 0.5
    assert torch.equal(together[1:2].argmax(-1)[is_clear], alone.argmax(-1)[is_clear])


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_row_is_the_row(name):
    kept = CacheTensors.empty((2, 4, 3, 6, 8), torch.device("cpu"), CACHE_DTYPES[name])
    for layer in range(2):
        kept.write(
            layer, (torch.arange(4)[:, None], torch.arange(6).expand(4, 6)), torch.randn(4, 6, 3, 8)
        )
    source, target = torch.tensor([3]), torch.tensor([1])
    kept.put(target, kept.rows(source))
    moved, wanted = kept.rows(target), kept.rows(source)
    for mine, theirs in zip(moved.tensors(), wanted.tensors(), strict=True):
        assert torch.equal(mine.float(), theirs.float())
        assert mine.any()


def streams():
    draws = np.random.default_rng(0)
    for index, num_frames in enumerate((60, 3, 41, 1, 33, 12)):
        sound_N = draws.normal(0, 3000, num_frames * FRAME)
        yield Stream(index, sound_N.clip(-32768, 32767).astype(np.int16), num_frames)


def tokens_by(model, streams):
    engine = step_engine(model, round_steps=7, reproducible=True)
    return {heard.stream.stream_id: heard.tokens_T.tolist() for heard in engine.run(streams)}


@pytest.mark.parametrize("name", ["bfloat16", "int8", "float8"])
def test_alone_is_together_over_as_many_slots(speech, name):
    # Over fewer slots a matrix product may differ in its last bit, and so an entry in its eighth.
    model = StepRunner(speech, 5, 7, RunnerOptions(cache_dtype=CACHE_DTYPES[name]))
    together = tokens_by(model, streams())
    assert len({token for tokens in together.values() for token in tokens}) > 5
    for stream in streams():
        alone = tokens_by(model, [stream])
        assert alone[stream.stream_id] == together[stream.stream_id]


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_takes_what_was_promised(speech, name):
    cache = speech.language_model.empty_cache(3, dtype=CACHE_DTYPES[name])
    numbers = Precision(weights="float32", activations="float32", cache=name)
    promised = memory_budget(speech.config, numbers, round_steps=25, encode_rows=1).cache_per_slot
    assert cache.keys.size_bytes + cache.values.size_bytes == 3 * promised


def test_every_name_is_known():
    assert set(KV_CACHE_DTYPES) == {"auto", *CACHE_DTYPES}
    cpu = torch.device("cpu")
    assert cache_dtype_of("auto", torch.bfloat16, cpu) is torch.bfloat16
    assert cache_dtype_of("int8", torch.bfloat16, cpu) is torch.int8


def test_float8_is_refused_where_the_gpu_has_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(ValueError, match=r"capability 8\.9 or more, cuda:1 has 8\.0"):
        cache_dtype_of("float8", torch.bfloat16, torch.device("cuda:1"))


def test_an_unknown_cache_is_named():
    with pytest.raises(
        ValueError, match=r"engine\.kv_cache_dtype must be one of auto, .*, not int7"
    ):
        EngineConfig(kv_cache_dtype="int7")
