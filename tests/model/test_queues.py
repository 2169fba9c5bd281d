"""Queues wait for each other where they must, and recorded steps say what called ones say: on a
pretended GPU, whose queues are watched for races."""

from functools import partial

import numpy as np
import pytest
import torch

from pipeline.benchmarks.random_weights import random_speech
from pipeline.benchmarks.sizes import config_of
from pipeline.engine.leaping import leaping_engine
from pipeline.engine.stepping import stepping_engine
from pipeline.engine.stream import Stream
from pipeline.model import packing
from pipeline.model.leaping import LeapingModel
from pipeline.model.queues import Queues
from pipeline.model.slotted import Housing
from pipeline.model.stepping import SteppingModel
from tests.model.pretended_cuda import Race, pretended_cuda

CPU = torch.device("cpu")
FRAMES = (12, 1, 30, 4, 5, 2, 7, 3, 9, 41, 50)  # the ring wraps twice; slots move to fewer
NUM_SLOTS, ROUND_STEPS = 16, 3  # more kinds of steps are recorded than a round has steps


@pytest.fixture(autouse=True, scope="module")
def unpacked():
    """As on a GPU, and on both sides of each comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_is_packable", lambda weight: False)
        yield


def speech():
    return random_speech(config_of("toy"), CPU, torch.float32)


def streams(**manner):
    for index, num_frames in enumerate(FRAMES):
        noise_N = np.random.default_rng(index).normal(0, 4000, num_frames * 1920)
        sound_N = noise_N.clip(-32768, 32767).astype(np.int16)
        yield Stream(index, sound_N, num_frames, **(manner if index % 2 else {}))


def heard_by(model, wanted):
    if isinstance(model, LeapingModel):
        engine = leaping_engine(model)
    else:
        engine = stepping_engine(model, round_steps=ROUND_STEPS)
    return {heard.stream.stream_id: heard.tokens_T.tolist() for heard in engine.hear(wanted)}


MANNERS = [{}, {"temperature": 0.8, "seed": 3, "prompt_tokens": (5, 9, 31)}]


@pytest.fixture(scope="module", params=MANNERS)
def plain(request):
    """On a plain CPU."""
    wanted = list(streams(**request.param))
    return wanted, heard_by(SteppingModel(speech(), NUM_SLOTS, ROUND_STEPS), wanted)


@pytest.mark.parametrize("use_graphs", [True, False])
def test_queues_race_nowhere_and_recorded_steps_say_the_same(plain, use_graphs, monkeypatch):
    wanted, expected = plain
    with pretended_cuda(monkeypatch) as watching:
        model = SteppingModel(speech(), NUM_SLOTS, ROUND_STEPS, Housing(use_graphs=use_graphs))
        assert heard_by(model, wanted) == expected
    assert watching.num_calls > 10_000
    assert len({token for tokens in expected.values() for token in tokens}) > 5


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize(("frames_per_pass", "num_passes"), [(2, 2), (4, 1)])
def test_leaps_race_nowhere_and_say_what_single_steps_say(
    plain, frames_per_pass, num_passes, use_graphs, monkeypatch
):
    wanted, expected = plain
    with pretended_cuda(monkeypatch):
        model = LeapingModel(
            speech(), NUM_SLOTS, frames_per_pass, num_passes, Housing(use_graphs=use_graphs)
        )
        assert model.rounds_ahead == 1
        assert heard_by(model, wanted) == expected


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("join", lambda queues: None),
        ("receive", lambda queues, tensor, sign: None),
    ],
)
@pytest.mark.parametrize("make", [SteppingModel, partial(LeapingModel, num_passes=2)])
@pytest.mark.parametrize("use_graphs", [True, False])
def test_a_queue_that_does_not_wait_is_caught(monkeypatch, name, broken, make, use_graphs):
    monkeypatch.setattr(Queues, name, broken)
    housing = Housing(use_graphs=use_graphs)
    with pretended_cuda(monkeypatch), pytest.raises(Race):
        heard_by(make(speech(), NUM_SLOTS, ROUND_STEPS, housing=housing), streams())
