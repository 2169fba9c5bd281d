"""The memory budget of a model is what it really takes, and slots follow from it."""

import itertools
from dataclasses import fields, replace

import pytest
import torch

from nightscribe.benchmarks.random_weights import PUBLISHED_NAMES, config_of
from nightscribe.engine.config import EngineConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.device import DTYPES
from nightscribe.model.memory_budget import (
    ENCODE_BYTES_PER_S,
    MAX_ENCODE_ROWS,
    MAX_SLOTS,
    MIN_ENCODE_ROWS,
    SMALLEST_BUCKET,
    encode_rows,
    fitting_slots,
    memory_budget,
    useful_slots,
)
from nightscribe.model.memory_budget import budget_for as budget_of_engine
from nightscribe.model.precision import Precision, format_of, precision_of
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import StepRunner
from nightscribe.model.weight_quantization import QuantizedLinear

GB = 1_000_000_000
BFLOAT16 = Precision(weights="bfloat16", activations="bfloat16", cache="bfloat16")
KINDS = ("float32", "bfloat16", "float16", "int8", "int4", "float8")
CACHE_DTYPES = ("float32", "bfloat16", "int8", "float8")


def budget_for(model="stt-1b-en_fr", numbers=BFLOAT16):
    return memory_budget(PUBLISHED[model], numbers, round_steps=25, encode_rows=64)


@pytest.mark.parametrize("model", PUBLISHED)
def test_more_memory_never_means_fewer_slots(model):
    needs = budget_for(model)
    slots = [needs.num_slots(size * GB) for size in range(200)]
    assert slots == sorted(slots)
    assert slots[0] == 0
    assert slots[-1] == MAX_SLOTS


@pytest.mark.parametrize("model", PUBLISHED)
def test_slots_come_in_whole_buckets_and_are_paid_for(model):
    needs = budget_for(model)
    for size in range(60):
        num_slots = needs.num_slots(size * GB)
        assert num_slots % SMALLEST_BUCKET == 0
        assert num_slots == 0 or needs.fixed + num_slots * needs.per_slot <= size * GB


def test_no_slots_where_the_model_itself_does_not_fit():
    needs = budget_for("stt-2.6b-en")
    assert needs.num_slots(needs.fixed) == 0
    assert needs.num_slots(needs.fixed / 0.9 + 10 * needs.per_slot / 0.9) >= SMALLEST_BUCKET


def test_the_described_budget_adds_up():
    needs = budget_for()
    parts = [float(part.split()[-2]) for part in needs.describe(64).split(", ")]
    assert len(parts) == 5
    assert sum(parts) == pytest.approx((needs.fixed + 64 * needs.per_slot) / 1e9, abs=0.03)


def test_every_field_of_the_bill_is_charged():
    needs = budget_for()
    for field in fields(needs):
        if field.name in ("encode_rows", "useful_slots"):
            continue  # paid for as `encoding`, and no bytes
        dearer = replace(needs, **{field.name: getattr(needs, field.name) + GB})
        assert dearer.num_slots(24 * GB) < needs.num_slots(24 * GB)


@pytest.mark.parametrize(("num_rows", "num_states"), [(1, 9), (8, 9), (9, 10), (64, 65)])
def test_encoding_holds_the_state_of_each_row_and_a_spare_one(num_rows, num_states):
    needs = memory_budget(PUBLISHED["stt-1b-en_fr"], BFLOAT16, round_steps=25, encode_rows=num_rows)
    sound_bytes = int(num_rows * 2 * ENCODE_BYTES_PER_S)  # 25 steps are two seconds
    assert needs.encoding == sound_bytes + num_states * needs.codec_state_per_slot


def test_short_streams_get_more_slots_where_memory_allows():
    one_b, large = PUBLISHED["stt-1b-en_fr"], PUBLISHED["stt-2.6b-en"]
    slots = [useful_slots(one_b, length_s) for length_s in (None, 600, 40, 10, 1)]
    assert slots == [256, 256, 512, 1024, 1024]
    assert useful_slots(large, 60) == 256 < useful_slots(large, 10)
    engine = EngineConfig(max_stream_s=10)
    fitting = [
        fitting_slots(budget_of_engine(one_b, BFLOAT16, engine, "cuda", size), "cuda", size)
        for size in (24 * GB, 140 * GB)
    ]
    assert fitting[0] < 256 < fitting[1] == 1024


def test_narrower_numbers_take_less_and_leave_more_slots():
    taken = [budget_for(numbers=precision_of(kind, "auto", (9, 0), "gpu")) for kind in KINDS]
    by_name = dict(zip(KINDS, taken, strict=True))
    order = [by_name[name].weights for name in ("float32", "bfloat16", "int8", "int4")]
    assert order == sorted(order, reverse=True)
    caches = [
        budget_for(numbers=replace(BFLOAT16, cache=cache)).cache_per_slot
        for cache in ("float32", "bfloat16", "int8")
    ]
    assert caches == sorted(caches, reverse=True)
    assert caches[1] == 98_304_000  # 750 positions of 16 layers, keys and values of 2,048 numbers


@pytest.mark.parametrize(
    ("model", "num_weights"), [("stt-1b-en_fr", 989e6), ("stt-2.6b-en", 2617e6)]
)
def test_the_published_models_have_their_published_sizes(model, num_weights):
    assert budget_for(model).weights == pytest.approx(2 * num_weights, rel=0.002)


@pytest.mark.parametrize("size", ["1b", "2.6b"])
def test_published_sizes_are_those_that_are_measured(size):
    assert config_of(size) == PUBLISHED[PUBLISHED_NAMES[size]]


def test_less_is_encoded_at_once_where_memory_is_small():
    rows = [encode_rows(size * GB, 25, 12.5) for size in (1, 15, 24, 48, 140)]
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (MIN_ENCODE_ROWS, MAX_ENCODE_ROWS)
    assert MIN_ENCODE_ROWS < rows[1] < MAX_ENCODE_ROWS


@pytest.fixture(scope="module")
def tiny():
    return open_model(ModelConfig(name="tiny", checkpoint="models/tiny"))


def size_bytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def matrices_of(module):
    compressed = [part for part in module.modules() if isinstance(part, QuantizedLinear)]
    stored = [[getattr(p.weight, f.name) for f in fields(p.weight)] for p in compressed]
    return [x for x in itertools.chain(*stored) if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_takes_the_memory_of_its_budget(tiny, kind):
    numbers = precision_of(kind, "auto", None, "cpu")
    speech = SpeechToText.load(
        tiny.config,
        tiny.mimi_tensors(),
        tiny.language_model_tensors(),
        "cpu",
        DTYPES[numbers.activations],
        weight_format=format_of(kind),
    )
    language_model = speech.language_model
    taken = size_bytes([*language_model.parameters(), *matrices_of(language_model)])
    assert taken == memory_budget(tiny.config, numbers, 25, 1).weights


def test_a_loaded_codec_takes_the_memory_of_its_budget(tiny):
    speech = SpeechToText.load(
        tiny.config, tiny.mimi_tensors(), tiny.language_model_tensors(), "cpu", torch.float32
    )
    needs = memory_budget(tiny.config, precision_of("float32", "auto", None, "cpu"), 25, 1)
    taken = size_bytes(speech.mimi.state_dict().values())
    assert needs.codec_weights == pytest.approx(taken, rel=0.03)  # biases and norms are not counted


@pytest.mark.parametrize(("frames_per_pass", "num_passes"), [(1, 25), (4, 7), (8, 4)])
def test_slots_take_the_memory_of_their_budget_for_any_frames_per_pass(
    tiny, frames_per_pass, num_passes
):
    """Of the codec's memory the ring, which is nearly all of it."""
    speech = SpeechToText.load(
        tiny.config, tiny.mimi_tensors(), tiny.language_model_tensors(), "cpu", torch.float32
    )
    if frames_per_pass == 1:
        model = StepRunner(speech, 3, 25)
    else:
        model = SpeculativeRunner(speech, 3, frames_per_pass, num_passes)
    needs = memory_budget(
        tiny.config,
        precision_of("float32", "auto", None, "cpu"),
        round_steps=25,
        encode_rows=1,
        frames_per_pass=frames_per_pass,
    )
    rings = [memory for memory in model.state_tensors() if memory.dim() == 5]
    # One more than the slots is for the rows that fill up a group.
    assert size_bytes(rings) == 3 * needs.per_slot + needs.codec_state_per_slot


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (9, 0), None])
def test_only_gpus_from_ampere_on_compute_in_bfloat16(capability):
    numbers = precision_of("auto", "auto", capability, "gpu")
    expected = {(7, 0): "float16", (7, 5): "float16", None: "float32"}.get(capability, "bfloat16")
    assert numbers.weights == numbers.activations == numbers.cache == expected
    small = precision_of("int8", "auto", capability, "gpu")
    assert small.weights == "int8"
    assert small.activations == ("float16" if expected == "float16" else "bfloat16")
