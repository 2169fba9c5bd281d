"""A small model with slots outputs for every stream what the lockstep one outputs for it alone."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nightscribe.engine.encoder_prefetch import EncoderPrefetch
from nightscribe.engine.loop import step_engine
from nightscribe.engine.scheduler import IterableSource, Scheduler
from nightscribe.engine.stream import Stream
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.sampling import Sampling, TokenConstraints
from nightscribe.model.step_runner import StepRunner
from tests.model.reference import random_pair

pytest.importorskip("moshi")

FRAME = 1920
MAX_FRAMES = 60  # the rings of both transformers (20 and 24 positions) wrap


@pytest.fixture(scope="module")
def speech():
    return random_pair().ours


@pytest.fixture(scope="module")
def streams(speech):
    return [stream_of(speech, index) for index in range(16)]


def stream_of(speech, index):
    draws = np.random.default_rng(index)
    num_samples = int(draws.integers(1, MAX_FRAMES * FRAME) if index % 4 else draws.integers(1, 9))
    noise_N = draws.standard_normal(num_samples) * np.linspace(300, 9000, num_samples)
    sound_N = noise_N.clip(-32768, 32767).astype(np.int16)
    num_frames = speech.config.num_frames(num_samples)
    return Stream(index, np.pad(sound_N, (speech.config.prefix_frames * FRAME, 0)), num_frames)


@pytest.fixture(scope="module")
def alone(speech, streams):
    """The lockstep output for each stream, prefix included, from the first frame on."""
    plain = {}
    for stream in streams:
        sound_N = stream.samples[speech.config.prefix_frames * FRAME :]
        plain[stream.stream_id] = speech.transcribe(sound_N[None])
    return plain


def outputs_of(model, streams, **config):
    engine = step_engine(model, **config)
    return {heard.stream.stream_id: heard for heard in engine.run(streams)}


def assert_as_alone(heard, alone):
    assert heard.keys() == alone.keys()
    for stream_id, plain in alone.items():
        assert heard[stream_id].tokens_T[1:].tolist() == plain.tokens_SF[0].tolist()
        np.testing.assert_allclose(
            heard[stream_id].confidences_T[1:], plain.probabilities_SF[0], rtol=1e-3, atol=1e-6
        )
        np.testing.assert_allclose(
            heard[stream_id].vad_TH[1:], plain.vad_SFHA[0, :, :, 0], rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize(
    ("num_slots", "round_steps", "encode_rows"),
    [(1, 25, 1), (3, 7, 2), (8, 25, 8), (16, 10, 1), (16, 10, 5), (24, 25, 64)],
)
def test_alone_is_together(speech, streams, alone, num_slots, round_steps, encode_rows):
    model = StepRunner(speech, num_slots, round_steps, RunnerOptions(encode_rows=encode_rows))
    shuffled = random.Random(num_slots).sample(streams, len(streams))
    assert_as_alone(outputs_of(model, shuffled, round_steps=round_steps), alone)
    assert_as_alone(outputs_of(model, streams, round_steps=round_steps, reproducible=True), alone)


def test_a_new_stream_is_not_affected_by_its_slots_past(speech, streams, alone):
    model = StepRunner(speech, 4, 25)
    # Large and finite: a masked weight of 0 times NaN would be NaN and condemn a right mask.
    for memory in model.state_tensors():
        memory.fill_(1e4)
    assert_as_alone(outputs_of(model, streams), alone)


def test_what_a_slot_does_not_hold_yet_is_not_even_read(speech, streams, alone):
    model = StepRunner(speech, 1, 25)
    for memory in model.cache_tensors():
        memory.fill_(torch.nan)  # a masked weight of 0 times NaN would be NaN
    short = [
        stream for stream in streams if stream.num_steps < speech.language_model.config.context
    ]
    (heard,) = outputs_of(model, short[:1]).items()
    assert_as_alone(dict([heard]), {heard[0]: alone[heard[0]]})


def test_garbage_does_reach_a_codec_that_forgets_to_forget(speech, streams, alone, monkeypatch):
    model = StepRunner(speech, 4, 25)
    for memory in model.state_tensors():
        memory.fill_(1e4)
    plain = speech.mimi.encode
    monkeypatch.setattr(
        speech.mimi,
        "encode",
        lambda samples, state, fresh: plain(samples, state, torch.zeros_like(fresh)),
    )
    with pytest.raises(AssertionError):
        assert_as_alone(outputs_of(model, streams), alone)


def test_forced_tokens_are_output_and_fed_back(speech, streams):
    forced = (7, 8, 9, 3, 3)
    held = [Stream(s.stream_id, s.samples, s.num_frames, forced[: s.num_steps]) for s in streams]
    heard = outputs_of(StepRunner(speech, 5, 7), held, round_steps=7)
    free = outputs_of(StepRunner(speech, 5, 7), streams, round_steps=7)
    for stream in streams:
        tokens_T = heard[stream.stream_id].tokens_T
        assert tokens_T[: len(forced)].tolist() == list(forced[: stream.num_steps])
    assert any(
        heard[s.stream_id].tokens_T[5:].tolist() != free[s.stream_id].tokens_T[5:].tolist()
        for s in streams
    )


def manners_of(streams):
    """Some streams draw their tokens, some are held to a prompt, some both; others are plain."""
    return {
        stream.stream_id: {
            "temperature": (0.0, 0.9, 0.0, 1.3)[index % 4],
            "seed": index,
            "prompt_tokens": (5, 9, 9, 31) if index % 4 >= 2 else (),
            "forced_tokens": (7, 8)[: stream.num_steps] if index % 8 == 6 else (),
        }
        for index, stream in enumerate(sorted(streams, key=lambda stream: -stream.num_steps))
    }


def in_manner(streams, manners):
    return [replace(stream, **manners[stream.stream_id]) for stream in streams]


@pytest.fixture(scope="module")
def alone_in_manner(speech, streams):
    plain = {}
    for stream in in_manner(streams, manners_of(streams)):
        sound_N = stream.samples[speech.config.prefix_frames * FRAME :]
        script = TokenConstraints(
            forced_tokens=stream.forced_tokens, prompt_tokens=stream.prompt_tokens
        )
        sampling = Sampling(temperature=stream.temperature, seed=stream.seed)
        plain[stream.stream_id] = speech.transcribe(sound_N[None], [script], sampling)
    return plain


@pytest.mark.parametrize(("num_slots", "round_steps"), [(3, 7), (16, 10)])
def test_prompts_and_draws_in_slots_are_those_of_the_plain_way(
    speech, streams, alone, alone_in_manner, num_slots, round_steps
):
    model = StepRunner(speech, num_slots, round_steps)
    shuffled = random.Random(num_slots).sample(streams, len(streams))
    mixed = in_manner(shuffled, manners_of(streams))
    assert_as_alone(outputs_of(model, mixed, round_steps=round_steps), alone_in_manner)
    changed = [
        index
        for index in alone
        if alone[index].tokens_SF.tolist() != alone_in_manner[index].tokens_SF.tolist()
    ]
    assert len(changed) > len(streams) / 2


def test_a_stream_that_draws_never_changes_its_greedy_neighbours(speech, streams, alone):
    model = StepRunner(speech, 8, 25)
    warm = {1: 2.0, 5: 0.7, 9: 1.0}
    mixed = [
        replace(stream, temperature=warm.get(stream.stream_id, 0.0), seed=1) for stream in streams
    ]
    heard = outputs_of(model, mixed)
    greedy = alone.keys() - warm.keys()
    assert_as_alone({i: heard[i] for i in greedy}, {i: alone[i] for i in greedy})
    assert any(heard[i].tokens_T[1:].tolist() != alone[i].tokens_SF[0].tolist() for i in warm)


class WatchCalls(TorchFunctionMode):
    """Notes every call from Python that makes the host wait for the device."""

    WAITS = frozenset(
        ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__")
    )

    def __init__(self):
        super().__init__()
        self.num_calls, self.waits = 0, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.num_calls += 1
        if getattr(func, "__name__", "") in self.WAITS:
            self.waits.append(func.__name__)
        return func(*args, **(kwargs or {}))


class WatchOperators(TorchDispatchMode):
    """Notes every operator that makes the host wait, wherever it is called from."""

    WAITS = ("aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.is_nonzero")

    def __init__(self):
        super().__init__()
        self.num_calls, self.waits = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num_calls += 1
        if str(func).startswith(self.WAITS):
            self.waits.append(str(func))
        return func(*args, **(kwargs or {}))


def first_round(model, streams, **manner):
    streams = [replace(stream, **manner) for stream in streams]
    planned = Scheduler(model.bucket_sizes, 25).plan(IterableSource(streams), wait=True)
    return EncoderPrefetch(FRAME, 25).prepare(planned)


@pytest.mark.parametrize("manner", [{}, {"temperature": 0.5, "prompt_tokens": (4, 5)}])
@pytest.mark.parametrize("watching", [WatchCalls, WatchOperators])
def test_the_host_never_waits_inside_a_round(speech, streams, watching, manner):
    model = StepRunner(speech, 8, 25)
    chunk, steps = first_round(model, streams, **manner)
    assert steps.is_greedy == (not manner)
    with watching() as watch:
        model.run(steps, [model.encode(chunk)])
    assert watch.num_calls > 1000
    assert watch.waits == []


@pytest.mark.parametrize("watching", [WatchCalls, WatchOperators])
def test_a_host_that_waits_is_caught(speech, streams, watching):
    model = StepRunner(speech, 8, 25)
    chunk, steps = first_round(model, streams)
    plain = model._step
    model._step = lambda *args: (plain(*args), model._tables.last_tokens_S[0].item())
    with watching() as watch:
        model.run(steps, [model.encode(chunk)])
    assert len(watch.waits) == steps.num_steps
