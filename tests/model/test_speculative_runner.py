"""Speculative rounds output what single steps do, however many draft tokens are accepted."""

import random
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from nightscribe.engine.loop import step_engine
from nightscribe.engine.speculative import SlotStream, SpeculativeLayout, speculative_engine
from nightscribe.engine.stream import OutputBuffer, Stream
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.step_runner import StepRunner
from tests.model.reference import random_pair
from tests.model.test_step_runner import WatchOperators

pytest.importorskip("moshi")

FRAME = 1920
FRAMES = (58, 3, 47, 1, 60, 29, 12, 40)  # the ring of 24 positions wraps twice


@pytest.fixture(scope="module")
def speech():
    """A random model that depends more on audio than on text: some draft tokens are right."""
    speech = deepcopy(random_pair().ours)
    embedding = speech.language_model.embedding
    embedding.table.weight.data[embedding.first_text_row :] *= 0.2
    return speech


def streams_of(**settings):
    for index, num_frames in enumerate(FRAMES):
        draws = np.random.default_rng(index)
        loudness = np.linspace(300, 9000, num_frames * FRAME) * (index % 3 > 0)
        noise_N = draws.standard_normal(num_frames * FRAME) * loudness
        sound_N = noise_N.clip(-32768, 32767).astype(np.int16)
        yield Stream(index, sound_N, num_frames, **settings)


def by_single_steps(speech, streams):
    engine = step_engine(StepRunner(deepcopy(speech), 4, 9), round_steps=9)
    return {heard.stream.stream_id: heard for heard in engine.run(streams)}


@pytest.fixture(scope="module")
def single(speech):
    return by_single_steps(speech, streams_of())


def by_leaps(model, streams):
    heard = {one.stream.stream_id: one for one in speculative_engine(model).run(streams)}
    return dict(sorted(heard.items()))


def leaping(speech, num_slots=3, frames_per_pass=4, num_passes=3):
    return SpeculativeRunner(deepcopy(speech), num_slots, frames_per_pass, num_passes)


def assert_alike(accepted, single):
    assert accepted.keys() == single.keys()
    for stream_id, plain in single.items():
        found = accepted[stream_id]
        assert found.tokens_T.tolist() == plain.tokens_T.tolist()
        for table in ("confidences_T", "vad_TH"):
            np.testing.assert_allclose(
                getattr(found, table), getattr(plain, table), rtol=1e-3, atol=1e-6
            )


class Progress:
    """Notes how far each slot came in each round of a model."""

    def __init__(self, model):
        self.rounds = []
        self._run, model.run = model.run, self

    def __call__(self, inputs, codes):
        leaping = self._run(inputs, codes)
        self.rounds.append(leaping.wait().num_steps_S[inputs.ends_S - inputs.bases_S >= 12])
        return leaping


@pytest.mark.parametrize(
    ("num_slots", "frames_per_pass", "num_passes"), [(1, 2, 7), (3, 4, 3), (5, 8, 1), (10, 3, 4)]
)
def test_speculative_output_is_that_of_single_steps(
    speech, single, num_slots, frames_per_pass, num_passes
):
    model = leaping(speech, num_slots, frames_per_pass, num_passes)
    shuffled = random.Random(num_slots).sample(list(streams_of()), len(FRAMES))
    assert_alike(by_leaps(model, shuffled), single)


def test_slots_advance_by_different_amounts_side_by_side(speech, single):
    model = leaping(speech)
    progress = Progress(model)
    assert_alike(by_leaps(model, streams_of()), single)
    assert any(len(set(steps.tolist())) > 1 for steps in progress.rounds)
    every = np.concatenate(progress.rounds)
    assert every.min() >= model.num_passes
    assert every.mean() > 1.2 * model.num_passes


def test_wrong_draft_tokens_cost_time_and_change_nothing(speech, single):
    model, wrong_ST = leaping(speech), torch.full((3, 4), 49)
    model._write_draft = lambda tables, tokens_ST, num_steps_S: tables.text_ST.copy_(
        torch.cat(
            (tokens_ST.gather(1, (num_steps_S[:, None] - 1).clamp_min(0)), wrong_ST[:, 1:]), 1
        )
    )
    progress = Progress(model)
    assert_alike(by_leaps(model, streams_of()), single)
    assert np.concatenate(progress.rounds).mean() < 1.2 * model.num_passes


def test_a_draft_token_accepted_unchecked_is_caught(speech, single, monkeypatch):
    plain = torch.Tensor.cumprod
    monkeypatch.setattr(torch.Tensor, "cumprod", lambda x, dim: torch.ones_like(plain(x, dim)))
    with pytest.raises(AssertionError):
        assert_alike(by_leaps(leaping(speech), streams_of()), single)


def test_a_ring_without_room_to_be_wrong_in_is_refused(speech):
    model = leaping(speech)
    model._cache = speech.language_model.empty_cache(3)
    with pytest.raises(AssertionError):
        by_leaps(model, streams_of())


def test_forced_tokens_are_output_and_fed_back(speech):
    forced = (7, 0, 9, 3, 3, 11)  # 0 comes before the words of a prompt
    held = [
        Stream(s.stream_id, s.samples, s.num_frames, forced[: s.num_steps]) for s in streams_of()
    ]
    leapt = by_leaps(leaping(speech), held)
    assert_alike(leapt, by_single_steps(speech, held))
    for stream in held:
        output = leapt[stream.stream_id].tokens_T.tolist()
        assert output[: len(stream.forced_tokens)] == [*stream.forced_tokens]


def test_each_stream_draws_as_by_single_steps_whoever_is_beside_it(speech, single):
    wanted = [
        replace(stream, temperature=(0.0, 0.7, 1.3)[stream.stream_id % 3], seed=stream.stream_id)
        for stream in streams_of()
    ]
    expected = by_single_steps(speech, wanted)
    changed = [i for i in single if expected[i].tokens_T.tolist() != single[i].tokens_T.tolist()]
    assert {stream_id % 3 for stream_id in changed} == {1, 2}
    assert_alike(by_leaps(leaping(speech), wanted), expected)


def test_a_slot_remembers_nothing_of_the_stream_before(speech, single):
    model = leaping(speech, num_slots=1)
    assert_alike(by_leaps(model, streams_of()), single)
    assert_alike(by_leaps(model, reversed(list(streams_of()))), single)


def test_prompts_are_output_at_the_steps_of_single_stepping(speech, single):
    prompted = [
        replace(stream, prompt_tokens=tuple(range(20, 20 + 3 * (stream.stream_id % 3))))
        for stream in streams_of()
    ]
    expected = by_single_steps(speech, prompted)
    assert any(expected[i].tokens_T.tolist() != single[i].tokens_T.tolist() for i in single)
    assert_alike(by_leaps(leaping(speech), prompted), expected)


@pytest.mark.parametrize("manner", [{}, {"temperature": 0.5, "prompt_tokens": (4, 5)}])
def test_the_host_never_waits_inside_a_round(speech, manner):
    model = leaping(speech)
    held = [
        SlotStream(slot, stream, OutputBuffer(stream, model.num_vad_heads))
        for slot, stream in enumerate(list(streams_of(**manner))[:3])
    ]
    chunk, inputs = SpeculativeLayout(model).lay_out(held, 3)
    assert inputs.is_greedy == (not manner)
    with WatchOperators() as watch:
        model.run(inputs, model.encode(chunk))
    assert watch.num_calls > 1000
    assert watch.waits == []
