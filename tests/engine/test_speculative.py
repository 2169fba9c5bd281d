"""Speculative streams are complete and in order, however many draft tokens are accepted."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from nightscribe.engine.speculative import SpeculativeLayout, speculative_engine
from nightscribe.engine.stream import Stream
from tests.fakes import HashingModel, mixed, tokens_alone

MIN_ACCEPTED = 1  # a pass always makes a step


class SpeculativeHashingModel:
    """The toy recurrences, in passes of which a random number of steps is right."""

    def __init__(self, num_slots, frames_per_pass, num_passes, rounds_ahead=0):
        self.frames_per_pass, self.num_passes = frames_per_pass, num_passes
        self.frame_samples, self.num_vad_heads, self.rounds_ahead = 4, 1, rounds_ahead
        self._codec, self._draw = HashingModel(num_slots), random.Random(0)
        self.bucket_sizes = self._codec.bucket_sizes
        num_columns = (rounds_ahead + 2) * num_passes * frames_per_pass
        self.codes_SC = np.full((num_slots, num_columns), 55)
        self.said_S = np.full(num_slots, 88)  # not zero: a fresh stream must not use it
        self.positions_S = np.full(num_slots, 99)
        self.encode = self._codec.encode
        self.sizes, self.num_unread = [], 0

    def run(self, inputs, codes):
        num_slots = len(inputs.ends_S)
        self.sizes.append(num_slots)
        self.num_unread += 1
        assert self.num_unread <= self.rounds_ahead + 1
        self.codes_SC[:num_slots] = np.concatenate((self.codes_SC, codes), None)[
            inputs.code_rows_SC
        ]
        is_placed_S = inputs.starts_S >= 0
        self.positions_S[:num_slots][is_placed_S] = inputs.starts_S[is_placed_S]
        num_steps_S = [self._num_steps(inputs, slot) for slot in range(num_slots)]
        tokens_SW = np.full((num_slots, self.num_passes * self.frames_per_pass), -9)
        for slot, num_steps in enumerate(num_steps_S):
            for column in range(num_steps):
                self._step(inputs, slot)
                tokens_SW[slot, column] = self.said_S[slot]
        return SpeculativeHashingRound(self, np.array(num_steps_S), tokens_SW)

    def _num_steps(self, inputs, slot):
        passes = range(self.num_passes)
        accepted = [self._draw.randint(MIN_ACCEPTED, self.frames_per_pass) for _ in passes]
        return int(min(sum(accepted), max(inputs.ends_S[slot] - self.positions_S[slot], 0)))

    def _step(self, inputs, slot):
        position = self.positions_S[slot]
        assert position <= inputs.max_positions_S[slot] + self.num_passes * self.frames_per_pass
        column = position - inputs.bases_S[slot]
        past = 0 if position == 0 else self.said_S[slot]
        heard = 0 if position == 0 else self.codes_SC[slot, column]
        forced = inputs.forced_SC[slot, column]
        self.said_S[slot] = forced if forced >= 0 else mixed(past, heard)
        self.positions_S[slot] += 1

    def move(self, sources, targets):
        self._codec.move(sources, targets)
        for state_S in (self.said_S, self.positions_S, self.codes_SC):
            state_S[list(targets)] = state_S[list(sources)]
            state_S[list(sources)] = 99


class SpeculativeHashingRound:
    """A round that is not read before the engine waits for it."""

    def __init__(self, model, num_steps_S, tokens_SW):
        self._model, shares_SW = model, (tokens_SW / 9973).astype(np.float32)
        self._output = SimpleNamespace(
            num_steps_S=num_steps_S,
            tokens_SW=tokens_SW,
            confidences_SW=shares_SW,
            vad_SWH=shares_SW[..., None],
        )

    def wait(self):
        self._model.num_unread -= 1
        return self._output


def streams_of(lengths):
    draws = np.random.default_rng(0)
    for index, num_frames in enumerate(lengths):
        samples_N = draws.integers(-32768, 32767, num_frames * 4 - index % 4).astype(np.int16)
        forced = (5, 6, 7)[: min(index % 5, num_frames, 3)]
        yield Stream(index, samples_N, num_frames, forced, num_silent_samples=index % 9)


def assert_same_as_alone(engine, streams):
    assert_as_alone(list(engine.run(iter(streams))), streams)


def assert_as_alone(heard, streams):
    assert len(heard) == len(streams)
    for one in heard:
        assert one.tokens_T.tolist() == tokens_alone(one.stream, 4)


LENGTHS = (1, 2, 90, 11, 12, 13, 24, 60, 7, 150, 36, 5, 48, 3)


@pytest.mark.parametrize("num_slots", [1, 3, 8, 20])
@pytest.mark.parametrize(("frames_per_pass", "num_passes"), [(1, 1), (2, 1), (4, 3), (3, 9)])
@pytest.mark.parametrize("rounds_ahead", [0, 1, 2])
def test_neighbours_slots_and_accepted_steps_never_change_a_stream(
    num_slots, frames_per_pass, num_passes, rounds_ahead
):
    streams = list(streams_of(LENGTHS))
    model = SpeculativeHashingModel(num_slots, frames_per_pass, num_passes, rounds_ahead)
    engine = speculative_engine(model)
    assert_same_as_alone(engine, streams)
    assert engine.stats.num_live_steps == sum(stream.num_steps for stream in streams)
    assert 0 < engine.stats.occupancy <= 1
    assert engine.stats.slots_busy == 0


def test_a_stream_is_pulled_only_when_a_slot_is_free():
    pulled = []
    engine = speculative_engine(SpeculativeHashingModel(2, 2, 2))

    def streams():
        for stream in streams_of(LENGTHS):
            pulled.append(stream.stream_id)
            yield stream

    for num_heard, _ in enumerate(engine.run(streams())):
        assert len(pulled) <= num_heard + 2


@pytest.mark.parametrize("rounds_ahead", [0, 1])
def test_slots_move_together_when_nothing_waits_but_not_where_rounding_must_be_alike(rounds_ahead):
    streams = list(streams_of((200, *[5] * 30, 300)))
    sizes = {}
    for reproducible in (False, True):
        model = SpeculativeHashingModel(8, 2, 3, rounds_ahead)
        assert_same_as_alone(speculative_engine(model, reproducible=reproducible), streams)
        sizes[reproducible] = model.sizes
    assert sizes[False][-1] == 2
    assert sizes[False] == sorted(sizes[False], reverse=True)
    assert set(sizes[True]) == {8}


def test_the_next_round_is_queued_before_the_last_is_read():
    model = SpeculativeHashingModel(3, 2, 3, rounds_ahead=1)
    unread, run = [], model.run
    model.run = lambda *args: (run(*args), unread.append(model.num_unread))[0]
    list(speculative_engine(model).run(streams_of(LENGTHS)))
    assert unread[:1] == [1]
    assert set(unread[1:-1]) == {2}


def test_an_abandoned_run_leaves_nothing_behind():
    streams = list(streams_of(LENGTHS))
    engine = speculative_engine(SpeculativeHashingModel(3, 4, 3))
    next(iter(engine.run(streams)))
    assert_same_as_alone(engine, streams)


def test_codes_of_another_row_are_noticed(monkeypatch):
    plain = SpeculativeLayout._code_rows
    monkeypatch.setattr(SpeculativeLayout, "_code_rows", lambda *args: plain(*args) + 1)
    with pytest.raises((AssertionError, IndexError)):
        assert_same_as_alone(
            speculative_engine(SpeculativeHashingModel(3, 4, 3)), list(streams_of(LENGTHS))
        )
