"""Where the output of a stream is kept between rounds changes nothing of it."""

import numpy as np
import pytest

from nightscribe.engine import output_reader
from nightscribe.engine.interface import RoundOutput
from nightscribe.engine.live import LiveStream
from nightscribe.engine.output_reader import OutputReader
from nightscribe.engine.scheduler import IterableSource, Scheduler
from tests.engine.test_step_loop import assert_same_as_alone, outputs_of, some_lengths, streams_of
from tests.fakes import HashingModel


@pytest.mark.parametrize("num_steps", [1, 8, 30])
def test_a_full_history_changes_no_stream(num_steps, monkeypatch):
    monkeypatch.setattr(output_reader, "HISTORY_STEPS", num_steps)
    streams = streams_of(some_lengths(60, seed=2), seed=2)
    assert_same_as_alone(outputs_of(HashingModel(8), streams), streams)


def test_what_was_given_out_stays_as_it_was():
    heard = []
    stream = LiveStream("a", heard.append, 4)
    scheduler, reader = Scheduler([1], 4), OutputReader(0)
    planned = scheduler.plan(IterableSource([stream]), wait=True)
    for tokens in (5, 6):
        output = RoundOutput(
            np.full((1, 1), tokens, np.int32), np.zeros((1, 1)), np.zeros((1, 1, 0))
        )
        list(reader.read(planned, output))
    reader._history.tokens_HS[:] = 9
    assert [one.tokens_T.tolist() for one in heard] == [[5], [6]]
