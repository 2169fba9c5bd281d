"""The engine for a few recordings has no slot that stays empty."""

from types import SimpleNamespace

import pytest

from nightscribe.engine.config import EngineConfig
from nightscribe.jobs.shell.few_streams import (
    FRAMES_PER_PASS,
    MAX_SLOTS,
    engine_for,
    engine_for_one,
)

CPU = EngineConfig(device="cpu")


@pytest.mark.parametrize(("num_streams", "num_slots"), [(1, 1), (3, 3), (900, MAX_SLOTS)])
def test_there_are_as_many_slots_as_streams(num_streams, num_slots):
    assert engine_for(CPU, num_streams).num_slots == num_slots


def test_slots_that_were_asked_for_stay():
    asked = EngineConfig(device="cpu", num_slots=5)
    assert engine_for(asked, 1) is asked


@pytest.mark.parametrize(
    ("wished", "frames_per_pass"),
    [
        ({}, FRAMES_PER_PASS),
        ({"dtype": "float32", "kv_cache_dtype": "float32"}, FRAMES_PER_PASS),
        ({"frames_per_pass": 1}, 1),
        ({"frames_per_pass": 3, "dtype": "bfloat16"}, 3),
        ({"dtype": "bfloat16"}, 1),
        ({"kv_cache_dtype": "int8"}, 1),
    ],
)
def test_several_frames_per_pass_are_used_where_no_word_can_change(wished, frames_per_pass):
    engine = engine_for_one(EngineConfig(device="cpu", **wished))
    assert (engine.num_slots, engine.frames_per_pass) == (1, frames_per_pass)


def test_on_a_gpu_a_file_is_transcribed_frame_by_frame(monkeypatch):
    monkeypatch.setattr(
        "nightscribe.model.device.device_of", lambda name: SimpleNamespace(type="cuda")
    )
    assert engine_for_one(EngineConfig(dtype="float32")).frames_per_pass == 1


def test_terms_and_several_streams_go_frame_by_frame():
    assert engine_for(CPU, 1).frames_per_pass == FRAMES_PER_PASS
    assert engine_for(CPU, 2).frames_per_pass is None
    assert engine_for(CPU, 1, has_terms=True).frames_per_pass == 1
