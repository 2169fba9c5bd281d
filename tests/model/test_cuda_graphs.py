"""CUDA streams wait for each other where they must, and graphs give what calls give.

On a pretended GPU, whose streams are watched for races.
"""

import contextlib
import itertools
from functools import partial

import numpy as np
import pytest
import torch

from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.engine.encoder_prefetch import EncodeJob, chunk_of
from nightscribe.engine.loop import step_engine
from nightscribe.engine.speculative import speculative_engine
from nightscribe.engine.stream import Stream
from nightscribe.model import cpu_weights as packing
from nightscribe.model.cuda_graphs import CudaRuntime, EncoderKey, GraphKey
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.step_runner import StepRunner
from tests.model.fake_cuda import Race, fake_cuda, fake_streams

CPU = torch.device("cpu")
FRAMES = (12, 1, 30, 4, 5, 2, 7, 3, 9, 41, 50)  # the ring wraps twice; slots move to fewer
NUM_SLOTS, ROUND_STEPS = 16, 3  # more kinds of steps are recorded than a round has steps


@pytest.fixture(autouse=True, scope="module")
def unpacked():
    """As on a GPU, and on both sides of each comparison."""
    speech()  # what torch loads once, is before
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


def outputs_of(model, wanted):
    if isinstance(model, SpeculativeRunner):
        engine = speculative_engine(model)
    else:
        engine = step_engine(model, round_steps=ROUND_STEPS)
    return {heard.stream.stream_id: heard.tokens_T.tolist() for heard in engine.run(wanted)}


MANNERS = [{}, {"temperature": 0.8, "seed": 3, "prompt_tokens": (5, 9, 31)}]


@pytest.fixture(scope="module", params=MANNERS)
def plain(request):
    """On a plain CPU."""
    wanted = list(streams(**request.param))
    return wanted, outputs_of(StepRunner(speech(), NUM_SLOTS, ROUND_STEPS), wanted)


@pytest.mark.parametrize("use_graphs", [True, False])
def test_streams_never_race_and_captured_steps_output_the_same(plain, use_graphs, monkeypatch):
    wanted, expected = plain
    with fake_cuda(monkeypatch) as watching:
        model = StepRunner(speech(), NUM_SLOTS, ROUND_STEPS, RunnerOptions(use_graphs=use_graphs))
        assert outputs_of(model, wanted) == expected
    assert watching.num_calls > 10_000
    assert len({token for tokens in expected.values() for token in tokens}) > 5


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize(("frames_per_pass", "num_passes"), [(2, 2), (4, 1)])
def test_speculative_rounds_never_race_and_output_what_single_steps_do(
    plain, frames_per_pass, num_passes, use_graphs, monkeypatch
):
    wanted, expected = plain
    with fake_cuda(monkeypatch):
        model = SpeculativeRunner(
            speech(), NUM_SLOTS, frames_per_pass, num_passes, RunnerOptions(use_graphs=use_graphs)
        )
        assert model.rounds_ahead == 1
        assert outputs_of(model, wanted) == expected


def called():
    return StepRunner(speech(), NUM_SLOTS, ROUND_STEPS, RunnerOptions(use_graphs=False))


def codes_around_a_move(model):
    """What the codec makes of a stream whose slot is moved as soon as its chunk is queued."""
    (stream,) = (one for one in streams() if one.num_frames == 12)
    jobs = [EncodeJob(9, stream, 0, 3), EncodeJob(2, stream, 3, 6)]
    chunks = [chunk_of([job], ROUND_STEPS, model.frame_samples) for job in jobs]
    before = model.encode(chunks[0])
    model.move([9], [2])
    return [codes.codes_JFK.flatten(0, 1).tolist() for codes in (before, model.encode(chunks[1]))]


def test_a_slot_moves_between_what_the_codec_does_before_and_after(monkeypatch):
    expected = codes_around_a_move(called())
    assert expected[0] != expected[1]
    with fake_cuda(monkeypatch):
        assert codes_around_a_move(called()) == expected


@pytest.mark.parametrize("skipped", [0, 1])
def test_a_move_that_does_not_wait_for_the_codec_or_lets_it_pass_is_caught(monkeypatch, skipped):
    with fake_cuda(monkeypatch):
        model = called()
        join, joins = CudaRuntime.sync_streams, itertools.count()
        monkeypatch.setattr(
            CudaRuntime, "sync_streams", lambda queues: next(joins) == skipped or join(queues)
        )
        with pytest.raises(Race):
            codes_around_a_move(model)
    assert next(joins) > skipped


def test_graphs_share_memory_with_their_kind_alone_and_nothing_with_another_device(monkeypatch):
    steps, codec = [GraphKey(8, True), GraphKey(8, False)], [EncoderKey(8, 25), EncoderKey(8, 13)]
    with fake_streams(monkeypatch):
        runtimes = [CudaRuntime(CPU, use_graphs=True) for _ in range(2)]
        for runtime, key in itertools.product(runtimes, steps + codec):
            runtime.capture(key, lambda: None)
    pools = [
        {id(runtime.graph(key).pool) for key in keys}
        for runtime in runtimes
        for keys in (steps, codec)
    ]
    assert [len(pool) for pool in pools] == [1, 1, 1, 1]
    assert len(set.union(*pools)) == 4
    assert len({runtime.graph(key).stream for runtime in runtimes for key in steps + codec}) == 2


def test_what_the_codec_queues_does_not_wait_behind_steps(monkeypatch):
    with fake_streams(monkeypatch):
        runtime = CudaRuntime(CPU, use_graphs=True)
        with runtime.on_codec_stream():
            assert torch.cuda.current_stream(CPU).priority < 0  # lower numbers come first
        assert torch.cuda.current_stream(CPU).priority == 0


@pytest.mark.parametrize(
    ("is_cuda", "num_frames", "num_together"),
    [(True, 1, 16), (False, 1, 3), (False, ROUND_STEPS, 1)],
)
def test_a_gpu_encodes_many_streams_at_once_and_a_cpu_short_ones(
    monkeypatch, is_cuda, num_frames, num_together
):
    with fake_cuda(monkeypatch) if is_cuda else contextlib.nullcontext():
        model, sizes = called(), []
        encode = model._mimi.mimi.encode
        monkeypatch.setattr(
            model._mimi.mimi, "encode", lambda x, *args: (sizes.append(len(x)), encode(x, *args))[1]
        )
        wanted = [one for one in streams() if one.num_frames >= num_frames]
        jobs = [EncodeJob(slot, one, 0, num_frames) for slot, one in enumerate(wanted)]
        model.encode(chunk_of(jobs, ROUND_STEPS, model.frame_samples))
    assert max(sizes) == num_together


def test_a_reproducible_stream_is_encoded_in_one_shape_alone_or_among_others(monkeypatch):
    seen, wanted = [], list(streams())
    with fake_cuda(monkeypatch):
        model = StepRunner(speech(), NUM_SLOTS, ROUND_STEPS, RunnerOptions(reproducible=True))
        call = model._mimi._codes
        monkeypatch.setattr(
            model._mimi, "_codes", lambda x, table: (seen.append(x.shape), call(x, table))[1]
        )
        for num_jobs in (1, 11):
            jobs = [
                EncodeJob(slot, one, 0, min(ROUND_STEPS, one.num_frames))
                for slot, one in enumerate(wanted[:num_jobs])
            ]
            model.encode(chunk_of(jobs, ROUND_STEPS, model.frame_samples))
        assert model._runtime.graph(EncoderKey(16, ROUND_STEPS)) is not None
        assert not seen  # everything was replayed
        assert [*model._mimi._calls] == [EncoderKey(16, ROUND_STEPS)]


def test_the_host_hands_everything_over_in_pinned_memory_and_does_not_wait(monkeypatch):
    to, pinned, handed = torch.Tensor.to, [], []

    def to_device(tensor, *args, non_blocking=False, **kwargs):
        if isinstance(args[0], torch.device):
            handed.append((any(tensor is one for one in pinned), non_blocking))
        return to(tensor, *args, **kwargs)

    with fake_cuda(monkeypatch):
        model, pin = called(), torch.Tensor.pin_memory
        monkeypatch.setattr(
            torch.Tensor, "pin_memory", lambda x: (pinned.append(pin(x)), pinned[-1])[1]
        )
        monkeypatch.setattr(torch.Tensor, "to", to_device)
        outputs_of(model, streams())
    assert len(handed) > 50
    assert set(handed) == {(True, True)}


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("sync_streams", lambda runtime: None),
        ("wait_event", lambda runtime, tensor, event: None),
    ],
)
@pytest.mark.parametrize("make", [StepRunner, partial(SpeculativeRunner, num_passes=2)])
@pytest.mark.parametrize("use_graphs", [True, False])
def test_a_cuda_stream_that_does_not_wait_is_caught(monkeypatch, name, broken, make, use_graphs):
    monkeypatch.setattr(CudaRuntime, name, broken)
    options = RunnerOptions(use_graphs=use_graphs)
    with fake_cuda(monkeypatch), pytest.raises(Race):
        outputs_of(make(speech(), NUM_SLOTS, ROUND_STEPS, options=options), streams())
