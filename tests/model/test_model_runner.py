"""Laws of both kinds of runners."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nightscribe.benchmarks.measurements import one_chunk
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.engine.loop import step_engine
from nightscribe.engine.speculative import speculative_engine
from nightscribe.engine.stream import Stream
from nightscribe.model import mimi, model_runner
from nightscribe.model.mimi import exact_products, products_in
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.step_runner import StepRunner
from nightscribe.model.transformer import Transformer

CPU = torch.device("cpu")
FRAMES = (50, 3, 1, 30, 12)  # the ring of 24 positions wraps twice
ROUND_STEPS = 9
KINDS = {
    "stepping": (
        partial(StepRunner, round_steps=ROUND_STEPS),
        partial(step_engine, round_steps=ROUND_STEPS),
    ),
    "leaping": (partial(SpeculativeRunner, frames_per_pass=3, num_passes=3), speculative_engine),
}


def speech_in(dtype):
    return random_speech(config_of("toy"), CPU, dtype)


def streams():
    for index, num_frames in enumerate(FRAMES):
        noise_N = np.random.default_rng(index).normal(0, 4000, num_frames * 1920)
        yield Stream(index, noise_N.clip(-32768, 32767).astype(np.int16), num_frames)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_alone_is_together_to_the_bit_over_as_many_slots(kind):
    make, engine_of = KINDS[kind]
    engine = engine_of(make(speech_in(torch.bfloat16), num_slots=16), reproducible=True)
    together = {heard.stream.stream_id: heard for heard in engine.run(streams())}
    for stream in list(streams())[::3]:
        (alone,) = engine.run([stream])
        other = together[stream.stream_id]
        assert alone.tokens_T.tolist() == other.tokens_T.tolist()
        assert alone.confidences_T.tolist() == other.confidences_T.tolist()
    assert len({token for heard in together.values() for token in heard.tokens_T.tolist()}) > 5


class WatchSizes(TorchDispatchMode):
    """Notes the largest tensor that any operator makes."""

    largest_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        said = func(*args, **(kwargs or {}))
        given = {x.data_ptr() for x in args if isinstance(x, torch.Tensor)}
        if isinstance(said, torch.Tensor) and said.data_ptr() not in given:
            self.largest_bytes = max(self.largest_bytes, said.nbytes)
        return said


@pytest.mark.parametrize("kind", KINDS)
def test_slots_move_a_few_at_a_time_whose_copies_have_room(kind):
    make, _ = KINDS[kind]
    model = make(speech_in(torch.float32), num_slots=32)
    largest_bytes = max(memory.nbytes for memory in model.state_tensors()) / 32
    with WatchSizes() as watch:
        model.move(range(16, 32), range(16))
    assert largest_bytes < watch.largest_bytes <= 8 * largest_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_moved_slot_remembers_all_that_it_did(kind):
    make, _ = KINDS[kind]
    model = make(speech_in(torch.float32), num_slots=4)
    tables = [
        table for table in (*model.state_tensors(), *model._tables.slot_state) if table.numel()
    ]
    for table in tables:
        table.copy_(torch.arange(table.numel()).view(table.shape) % 9973)
    model.move([3], [1])
    for table in tables:
        by_slot = table.transpose(0, 1) if table.dim() == 5 else table  # rings: layers come first
        assert torch.equal(by_slot[1], by_slot[3])
        assert not torch.equal(by_slot[1], by_slot[2])


def test_the_codec_s_products_are_rounded_and_never_those_of_its_quantizer(monkeypatch):
    gpu, seen = torch.device("cuda"), []
    monkeypatch.setattr(
        model_runner, "products_in", lambda precision, _: products_in(precision, gpu)
    )
    monkeypatch.setattr(mimi, "exact_products", lambda _: exact_products(gpu))
    for kind, name in ((Transformer, "extend"), (mimi.ResidualCodebooks, "forward")):
        plain = getattr(kind, name)

        def watched(self, *args, plain=plain):
            seen.append(torch.get_float32_matmul_precision())
            return plain(self, *args)

        monkeypatch.setattr(kind, name, watched)
    for rounds_codec in (False, True):
        options = model_runner.RunnerOptions(rounds_codec=rounds_codec)
        model = StepRunner(speech_in(torch.float32), 1, ROUND_STEPS, options)
        model.encode(one_chunk(model, num_frames=2))
    # The transformer, then both kinds of codebooks.
    assert seen == ["highest"] * 3 + ["high", "highest", "highest"]
    assert torch.get_float32_matmul_precision() == "highest"
