"""A small model outputs for a pushed stream what it outputs for the whole stream alone."""

import numpy as np
import pytest

from nightscribe.engine.loop import step_engine
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.step_runner import StepRunner
from tests.engine.test_live import RandomSource, ScriptedStream
from tests.model.test_step_runner import FRAME, alone, speech, streams

pytest.importorskip("moshi")
fixtures = alone, speech, streams


def run(speech, streams, num_slots, encode_rows, seed):
    model = StepRunner(speech, num_slots, 4, RunnerOptions(encode_rows=encode_rows))
    scripted = [ScriptedStream(one, frame_samples=FRAME) for one in streams[::2]]
    source = RandomSource(scripted, streams[1::2], seed, starts_at_once=num_slots)
    engine = step_engine(model, round_steps=4, live=True)
    return scripted, list(engine.run_source(source))


@pytest.mark.parametrize(("num_slots", "encode_rows", "seed"), [(1, 1, 0), (5, 8, 1), (16, 3, 2)])
def test_pushed_together_is_whole_and_alone(speech, streams, alone, num_slots, encode_rows, seed):
    scripted, finished = run(speech, streams, num_slots, encode_rows, seed)
    for one in scripted:
        plain = alone[one.whole.stream_id]
        assert one.tokens[1:] == plain.tokens_SF[0].tolist()
        np.testing.assert_allclose(
            one.confidences[1:], plain.probabilities_SF[0], rtol=1e-3, atol=1e-6
        )
    for one in finished:
        assert one.tokens_T[1:].tolist() == alone[one.stream.stream_id].tokens_SF[0].tolist()
