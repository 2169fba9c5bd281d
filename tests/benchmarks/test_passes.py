"""What a pass costs is measured on rounds in which every slot makes all its passes."""

import pytest
import torch

from pipeline.benchmarks import passes
from pipeline.benchmarks.random_weights import random_speech
from pipeline.benchmarks.sizes import config_of
from pipeline.benchmarks.timing import Spent
from pipeline.model.leaping import LeapingModel

NUM_SLOTS, NUM_FRAMES, NUM_PASSES = 2, 3, 9  # nine passes of three frames: 25 steps and two more


@pytest.fixture
def speech():
    return random_speech(config_of("toy"), torch.device("cpu"), torch.float32)


def test_every_slot_makes_every_pass_of_a_round(speech):
    model = LeapingModel(speech, NUM_SLOTS, NUM_FRAMES, NUM_PASSES)
    num_steps_S = passes._round(model, position=100)().num_steps_S
    assert (num_steps_S >= NUM_PASSES).all()
    assert (num_steps_S <= NUM_PASSES * NUM_FRAMES).all()


def test_the_middle_round_counts_and_is_shared_by_its_passes(speech, monkeypatch):
    rounds = iter([Spent(9.0, 0), Spent(0.9, 0), Spent(1.8, 0)])
    monkeypatch.setattr(passes, "timed", lambda run, device: next(rounds))
    cost = passes.measure_pass(speech, NUM_SLOTS, NUM_FRAMES, step_s=0.1, num_rounds=3)
    assert (cost.num_frames, cost.num_slots) == (NUM_FRAMES, NUM_SLOTS)
    assert cost.pass_s == pytest.approx(0.2)
    assert cost.frames_to_gain == pytest.approx(2)
