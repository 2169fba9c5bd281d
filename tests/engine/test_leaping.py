"""Streams whose slots leap are heard whole and in order, however far each round comes."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.engine.leaping import LeapingEngine
from pipeline.engine.stream import Stream
from tests.fakes import HashingModel, mixed, tokens_alone

SHORTEST_LEAP = 1  # a pass always makes a step


class LeapingHashes:
    """The toy recurrences, in passes of which a random number of steps is right."""

    def __init__(self, num_slots, frames_per_pass, num_passes):
        self.num_slots, self.frames_per_pass = num_slots, frames_per_pass
        self.num_passes, self.frame_samples, self.num_heads = num_passes, 4, 1
        self._codec, self._draw = HashingModel(num_slots), random.Random(0)
        self.codes_SW = np.full((num_slots, 2 * num_passes * frames_per_pass), 55)
        self.said_S = np.full(num_slots, 88)  # not zero: a fresh stream must not hear it
        self.encode = self._codec.encode

    def run(self, leaps, codes):
        width = self.num_passes * self.frames_per_pass
        self.codes_SW = np.concatenate((self.codes_SW, codes), None)[leaps.frames_SW]
        num_steps_S = [self._num_steps(left) for left in leaps.left_S]
        tokens_SW = np.full((self.num_slots, width), -9)
        for slot, num_steps in enumerate(num_steps_S):
            for column in range(num_steps):
                self._step(leaps, slot, column)
                tokens_SW[slot, column] = self.said_S[slot]
        shares_SW = (tokens_SW / 9973).astype(np.float32)
        return SimpleNamespace(
            num_steps_S=np.array(num_steps_S),
            tokens_SW=tokens_SW,
            confidences_SW=shares_SW,
            heads_SWH=shares_SW[..., None],
        )

    def _num_steps(self, num_left):
        passes = range(self.num_passes)
        leaps = [self._draw.randint(SHORTEST_LEAP, self.frames_per_pass) for _ in passes]
        return min(sum(leaps), int(num_left))

    def _step(self, leaps, slot, column):
        is_fresh = leaps.positions_S[slot] + column == 0
        past = 0 if is_fresh else self.said_S[slot]
        heard = 0 if is_fresh else self.codes_SW[slot, column]
        forced = leaps.forced_SW[slot, column]
        self.said_S[slot] = forced if forced >= 0 else mixed(past, heard)


def streams_of(lengths):
    draws = np.random.default_rng(0)
    for index, num_frames in enumerate(lengths):
        samples_N = draws.integers(-32768, 32767, num_frames * 4 - index % 4).astype(np.int16)
        yield Stream(index, samples_N, num_frames, (5, 6, 7)[: min(index % 5, num_frames, 3)])


LENGTHS = (1, 2, 90, 11, 12, 13, 24, 60, 7, 150, 36, 5, 48, 3)


@pytest.mark.parametrize("num_slots", [1, 3, 8, 20])
@pytest.mark.parametrize(("frames_per_pass", "num_passes"), [(1, 1), (2, 1), (4, 3), (3, 9)])
def test_neighbours_slots_and_leaps_never_change_a_stream(num_slots, frames_per_pass, num_passes):
    streams = list(streams_of(LENGTHS))
    engine = LeapingEngine(LeapingHashes(num_slots, frames_per_pass, num_passes))
    heard = {one.stream.stream_id: one for one in engine.hear(iter(streams))}
    assert len(heard) == len(streams)
    for stream in streams:
        assert heard[stream.stream_id].tokens_T.tolist() == tokens_alone(stream, 4)
    assert engine.tally.num_live_steps == sum(stream.num_steps for stream in streams)
    assert 0 < engine.tally.occupancy <= 1
    assert engine.tally.slots_busy == 0


def test_a_stream_is_pulled_only_when_a_slot_is_free():
    pulled = []
    engine = LeapingEngine(LeapingHashes(2, 2, 2))

    def streams():
        for stream in streams_of(LENGTHS):
            pulled.append(stream.stream_id)
            yield stream

    for num_heard, _ in enumerate(engine.hear(streams())):
        assert len(pulled) <= num_heard + 2


def test_codes_of_another_row_are_noticed(monkeypatch):
    plain = LeapingEngine._known_rows
    monkeypatch.setattr(LeapingEngine, "_known_rows", lambda *args: plain(*args) + 1)
    streams = list(streams_of(LENGTHS))
    heard = {
        one.stream.stream_id: one for one in LeapingEngine(LeapingHashes(3, 4, 3)).hear(streams)
    }
    assert any(heard[s.stream_id].tokens_T.tolist() != tokens_alone(s, 4) for s in streams)
