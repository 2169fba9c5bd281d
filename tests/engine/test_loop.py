"""Laws of the engine with either kind of round loop."""

import random
from functools import partial

import pytest

from nightscribe.engine import loop as engines
from nightscribe.engine.loop import step_engine
from nightscribe.engine.scheduler import IterableSource
from nightscribe.engine.speculative import speculative_engine
from tests.engine.test_speculative import (
    LENGTHS,
    SpeculativeHashingModel,
    assert_as_alone,
    streams_of,
)
from tests.fakes import HashingModel

MODELS = {
    "single steps": (partial(HashingModel, 8), partial(step_engine, round_steps=6)),
    "speculative": (partial(SpeculativeHashingModel, 8, 2, 3), speculative_engine),
    "speculative, a round ahead": (
        partial(SpeculativeHashingModel, 8, 2, 3, rounds_ahead=1),
        speculative_engine,
    ),
}


@pytest.fixture(params=MODELS)
def model_and_engine(request):
    make, engine_of = MODELS[request.param]
    model = make()
    return model, engine_of(model)


class RunsDry:
    """Has nothing for a while, now and then or always, but for who waits."""

    def __init__(self, streams, share):
        self._streams, self._draw, self._share = iter(streams), random.Random(1), share
        self.num_given = self.num_heard = 0

    def take(self, *, wait):
        assert not wait or self.num_given == self.num_heard
        if not wait and self._draw.random() < self._share:
            return None
        stream = next(self._streams, None)
        self.num_given += stream is not None
        return stream


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_a_source_that_runs_dry_holds_nobody_up_and_changes_nothing(model_and_engine, share):
    _, engine = model_and_engine
    streams = list(streams_of(LENGTHS * 3))
    source, heard = RunsDry(streams, share), []
    for one in engine.run_source(source):
        source.num_heard += 1
        heard.append(one)
    assert_as_alone(heard, streams)


def test_the_tally_counts_time_on_rounds_and_none_of_waiting(model_and_engine, monkeypatch):
    model, engine = model_and_engine
    run, clock = model.run, [0.0]

    def running(*args):
        clock[0] += 1
        return run(*args)

    class Slow(IterableSource):
        def take(self, *, wait):
            clock[0] += 1000
            return super().take(wait=wait)

    monkeypatch.setattr(engines.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(model, "run", running)
    assert list(engine.run_source(Slow(streams_of(LENGTHS))))
    assert engine.stats.busy_s == engine.stats.num_rounds > 3
    assert engine.stats.slots_busy == 0
