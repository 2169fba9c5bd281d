"""Nothing on a GPU meets what lies in the host's memory: on a device that computes nothing, through
the ways of a GPU, every operator is looked at."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.engine.encoder_prefetch import EncoderPrefetch
from nightscribe.engine.scheduler import IterableSource, Scheduler
from nightscribe.engine.speculative import SlotStream, SpeculativeLayout
from nightscribe.engine.stream import OutputBuffer, Stream
from nightscribe.model import attention_backends, cuda_graphs
from nightscribe.model.device import CACHE_DTYPES, DTYPES
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.step_runner import StepRunner
from nightscribe.model.weight_quantization import QuantizedLinear, quantize_linears
from tests.model import fake_cuda as pretended

AWAY = torch.device("meta")
NUM_SLOTS, ROUND_STEPS, FRAMES_PER_PASS = 16, 9, 3
COPIES = ("aten.copy_", "aten._to_copy")


class Mixture(AssertionError):
    pass


class Apart(TorchDispatchMode):
    """Only copies may see tensors of both; a number of the host, without a shape, may go along."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        is_copy = str(func).startswith(COPIES)
        if len({x.device.type for x in tensors if x.dim()}) > 1 and not is_copy:
            raise Mixture(f"{func} meets tensors of the host and of the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def apart(monkeypatch, has_kernel):
    """As on a GPU whose attention is our own kernel's, or without Triton torch's."""
    monkeypatch.setattr(attention_backends, "_has_flash", lambda keys: False)
    monkeypatch.setattr(attention_backends, "has_triton", lambda: has_kernel)
    monkeypatch.setattr(attention_backends, "_attend_triton", pretended_kernel)
    with pretended.fake_streams(monkeypatch), Apart():
        # What is there can not be read.
        monkeypatch.setattr(cuda_graphs.CudaRuntime, "_pinned_copy", lambda self, tensor: tensor)
        yield


def pretended_kernel(queries, keys, values, sight):
    given = keys.data_BHCE, values.data_BHCE, sight.newest_B
    assert {tensor.device for tensor in given} == {AWAY}
    return torch.empty_like(queries)


def streams():
    sound_N = np.zeros(61 * 1920, np.int16)
    yield Stream(0, sound_N, 61)
    yield Stream(1, sound_N, 50, prompt_tokens=(5, 9), temperature=0.7, seed=3)
    yield Stream(2, sound_N, 3, forced_tokens=(7,))


def round_of(model):
    planned = Scheduler(model.bucket_sizes, ROUND_STEPS).plan(IterableSource(streams()), wait=True)
    chunk, steps = EncoderPrefetch(model.frame_samples, ROUND_STEPS).prepare(planned)
    return model.run(steps, [model.encode(chunk)])


def leap_of(model):
    held = [SlotStream(slot, one, OutputBuffer(one, 0)) for slot, one in enumerate(streams())]
    chunk, inputs = SpeculativeLayout(model).lay_out(held, num_slots=8)
    return model.run(inputs, model.encode(chunk))


def speech_in(dtype):
    speech = random_speech(config_of("toy"), AWAY, DTYPES[dtype])
    if dtype == "float16":
        speech.language_model._widen()
    return speech


def devices_of(model, said):
    return {tensor.device for tensor in (*model.state_tensors(), *said.tensors)}


EVERYTHING = [
    pytest.param(dtype, cache, has_kernel, id=f"{dtype}-{cache}-{has_kernel}")
    for dtype, cache, has_kernel in [
        ("float32", "float32", True),
        ("bfloat16", "bfloat16", True),
        ("bfloat16", "float8", True),
        ("bfloat16", "int8", False),
        ("float16", "float16", False),
    ]
]


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize(("dtype", "cache", "has_kernel"), EVERYTHING)
def test_a_round_stays_on_the_device(dtype, cache, has_kernel, use_graphs, monkeypatch):
    with apart(monkeypatch, has_kernel):
        options = RunnerOptions(use_graphs=use_graphs, cache_dtype=CACHE_DTYPES[cache])
        model = StepRunner(speech_in(dtype), NUM_SLOTS, ROUND_STEPS, options)
        said = round_of(model)
        model.move([9], [2])
        assert devices_of(model, said) == {AWAY}


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize(("dtype", "cache", "has_kernel"), EVERYTHING)
def test_a_speculative_round_stays_on_the_device(dtype, cache, has_kernel, use_graphs, monkeypatch):
    with apart(monkeypatch, has_kernel):
        model = SpeculativeRunner(
            speech_in(dtype),
            NUM_SLOTS,
            FRAMES_PER_PASS,
            ROUND_STEPS // FRAMES_PER_PASS,
            RunnerOptions(use_graphs=use_graphs, cache_dtype=CACHE_DTYPES[cache]),
        )
        said = leap_of(model)
        model.move([9], [2])
        assert devices_of(model, said) == {AWAY}


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_compressed_matrices_stay_on_the_device(format, monkeypatch):
    with apart(monkeypatch, has_kernel=True):
        speech = speech_in("bfloat16")
        quantize_linears(speech.language_model.transformer, format, AWAY)
        for module in speech.language_model.modules():
            if isinstance(module, QuantizedLinear):
                module.load(torch.zeros(module._shape, dtype=torch.bfloat16))
        model = StepRunner(speech, NUM_SLOTS, ROUND_STEPS)
        assert devices_of(model, round_of(model)) == {AWAY}
