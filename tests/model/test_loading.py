"""A checkpoint comes onto its device with as many slots as there is room for."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.engine.config import EngineConfig
from pipeline.engine.engine import Engine
from pipeline.engine.stream import Stream
from pipeline.model import loading
from pipeline.model.checkpoints.model_config import ModelConfig
from pipeline.model.checkpoints.open import open_model
from pipeline.model.language_model import LanguageModel
from pipeline.model.placement import free_bytes_of
from pipeline.model.published import PUBLISHED


@pytest.fixture(scope="module")
def tiny():
    return open_model(ModelConfig(name="tiny", checkpoint="models/tiny"))


@pytest.fixture
def room_for(monkeypatch):
    """Let memory for keys and values run out beyond a number of slots."""
    plain, tried = LanguageModel.empty_cache, []

    def limit(most):
        def empty_cache(self, num_slots, *args, **kwargs):
            tried.append(num_slots)
            if num_slots > most:
                raise torch.OutOfMemoryError("no room")
            return plain(self, num_slots, *args, **kwargs)

        monkeypatch.setattr(LanguageModel, "empty_cache", empty_cache)
        return tried

    return limit


def tokens_of(model):
    sound_N = (np.random.default_rng(0).standard_normal(1920 * 5) * 3000).astype(np.int16)
    (heard,) = Engine(model).hear([Stream(0, sound_N, 8)])
    return heard.tokens_T.tolist()


def test_too_little_memory_at_the_start_halves_the_slots_instead_of_dying(tiny, room_for, caplog):
    whole = loading.load_slotted(tiny, EngineConfig(device="cpu", num_slots=4))
    tried = room_for(5)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger=loading.log.name):
        model = loading.load_slotted(tiny, EngineConfig(device="cpu", num_slots=32))
    assert tried == [32, 16, 8, 4]
    assert max(model.bucket_sizes) == 4
    assert [record.message for record in caplog.records] == [
        "32 slots do not fit; trying 16",
        "16 slots do not fit; trying 8",
        "8 slots do not fit; trying 4",
    ]
    assert tokens_of(model) == tokens_of(whole)


def test_where_not_even_one_slot_fits_the_error_is_told(tiny, room_for):
    tried = room_for(0)
    with pytest.raises(torch.OutOfMemoryError):
        loading.load_slotted(tiny, EngineConfig(device="cpu", num_slots=3))
    assert tried == [3, 1]


def test_the_log_says_what_goes_where(tiny, caplog):
    with caplog.at_level(logging.INFO, logger="pipeline.model.loading"):
        loading.load_slotted(tiny, EngineConfig(device="cpu", num_slots=2, dtype="int8"))
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("cpu: weights int8, computed in bfloat16, cache bfloat16, 2 slots: ")
    assert line.count(" GB") == 5


def test_a_model_that_cannot_fit_a_gpu_is_refused_before_a_weight_is_read(monkeypatch, tiny):
    monkeypatch.setattr(loading, "device_of", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(loading, "capability_of", lambda device: (8, 6))
    monkeypatch.setattr(loading, "free_bytes_of", lambda device: 4_000_000_000)
    unread = replace(tiny, config=PUBLISHED["stt-2.6b-en"])
    with pytest.raises(ValueError, match=r"takes 5\.5 GB, cuda:0 has 4\.0 GB free; .*int8"):
        loading.load_slotted(unread, EngineConfig())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int4"])
def test_every_precision_hears_to_the_end(tiny, dtype):
    exact = tokens_of(loading.load_slotted(tiny, EngineConfig(device="cpu", num_slots=2)))
    config = EngineConfig(device="cpu", num_slots=2, dtype=dtype)
    assert len(tokens_of(loading.load_slotted(tiny, config))) == len(exact)


def test_memory_that_may_be_taken_is_some_of_this_machine_s():
    free_bytes = free_bytes_of(torch.device("cpu"))
    assert 100e6 < free_bytes < 1e14
