"""The engine for a few recordings has no slot that stays empty."""

import pytest

from nightscribe.engine.config import EngineConfig
from nightscribe.jobs.shell.few_streams import FRAMES_PER_PASS, MAX_SLOTS, engine_for

CPU = EngineConfig(device="cpu")


@pytest.mark.parametrize(("num_streams", "num_slots"), [(1, 1), (3, 3), (900, MAX_SLOTS)])
def test_there_are_as_many_slots_as_streams(num_streams, num_slots):
    assert engine_for(CPU, num_streams).num_slots == num_slots


def test_slots_that_were_asked_for_stay():
    asked = EngineConfig(device="cpu", num_slots=5)
    assert engine_for(asked, 1) is asked


def test_one_stream_takes_several_frames_at_once_only_where_that_changes_no_word():
    assert engine_for(CPU, 1).frames_per_pass == FRAMES_PER_PASS
    assert engine_for(CPU, 2).frames_per_pass is None
    assert engine_for(CPU, 1, has_terms=True).frames_per_pass == 1
    assert engine_for(EngineConfig(device="cpu", dtype="bfloat16"), 1).frames_per_pass == 1
