"""What a pass costs is measured on rounds whose every pass is over all slots and full windows."""

import pytest
import torch

from nightscribe.benchmarks.measurements import Elapsed
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.model.language_model import LanguageModel
from ops.benchmarks import speculative_passes

NUM_SLOTS, NUM_FRAMES, NUM_PASSES = 2, 3, 9  # nine passes of three frames: 25 steps and two more


@pytest.fixture
def speech():
    return random_speech(config_of("toy"), torch.device("cpu"), torch.float32)


def test_every_pass_reads_all_slots_behind_full_windows(speech, monkeypatch):
    calls, extend = [], LanguageModel.extend

    def watched(self, codes_STK, text_ST, cache, *rest, **options):
        calls.append((text_ST.shape, cache.next_positions_B.tolist()))
        return extend(self, codes_STK, text_ST, cache, *rest, **options)

    monkeypatch.setattr(LanguageModel, "extend", watched)
    speculative_passes.measure_pass(speech, NUM_SLOTS, NUM_FRAMES, step_s=0.1, num_rounds=2)
    assert len(calls) == (1 + 2) * NUM_PASSES  # the first round warms up
    for shape, positions_S in calls:
        assert shape == (NUM_SLOTS, NUM_FRAMES)
        assert min(positions_S) >= speech.config.language_model.context


def test_the_middle_round_counts_and_is_shared_by_its_passes(speech, monkeypatch):
    rounds = iter([Elapsed(9.0, 0), Elapsed(0.9, 0), Elapsed(1.8, 0)])
    monkeypatch.setattr(speculative_passes, "timed", lambda run, device: next(rounds))
    cost = speculative_passes.measure_pass(speech, NUM_SLOTS, NUM_FRAMES, step_s=0.1, num_rounds=3)
    assert (cost.num_frames, cost.num_slots) == (NUM_FRAMES, NUM_SLOTS)
    assert cost.pass_s == pytest.approx(0.2)
    assert cost.frames_to_gain == pytest.approx(2)
