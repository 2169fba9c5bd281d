import random
from collections import deque

import numpy as np
import pytest

from nightscribe.engine.live import LiveStream
from nightscribe.engine.loop import step_engine
from nightscribe.engine.scheduler import IDLE_ROUNDS, Scheduler
from nightscribe.engine.stream import Stream
from tests.engine.test_step_loop import some_lengths, streams_of
from tests.fakes import HashingModel, tokens_alone

FRAME_SAMPLES = 4


class ScriptedStream:
    """A live stream whose frames are those of a whole one, and what came out of it."""

    def __init__(self, whole: Stream, num_until_cancel=None, frame_samples=FRAME_SAMPLES):
        self.whole, self.num_until_cancel = whole, num_until_cancel
        self.frame_samples = frame_samples
        self.samples_N = whole.whole_samples(frame_samples)
        self.tokens, self.confidences, self.has_ended = [], [], False
        self.live = LiveStream(
            whole.stream_id,
            self.on_output,
            frame_samples,
            forced_tokens=whole.forced_tokens,
            prompt_tokens=whole.prompt_tokens,
            temperature=whole.temperature,
            seed=whole.seed,
        )

    def on_output(self, output):
        assert output.first_step == len(self.tokens)
        assert not self.has_ended
        self.tokens += output.tokens_T.tolist()
        self.confidences += output.confidences_T.tolist()
        self.has_ended = output.is_last

    def push(self, count):
        first = self.live.num_frames
        end = min(first + count, self.whole.num_frames)
        self.live.push(self.samples_N[first * self.frame_samples : end * self.frame_samples])
        if self.num_until_cancel is not None and end >= self.num_until_cancel:
            self.live.cancel()
        elif end == self.whole.num_frames:
            self.live.close()


class RandomSource:
    """Pushes frames to its live streams at random times, and gives other streams between them."""

    def __init__(self, scripted, others, seed, starts_at_once=3):
        self.draw = random.Random(seed)
        self.live, self.others = deque(scripted), deque(others)
        self.open: list[ScriptedStream] = []
        self.max_open = starts_at_once

    def take(self, *, wait):
        self.open = [one for one in self.open if one.live.is_open]
        if self.live and len(self.open) < self.max_open:
            self.open.append(self.live.popleft())
            return self.open[-1].live
        return self.others.popleft() if self.others else None

    def receive(self, *, wait):
        self.open = [one for one in self.open if one.live.is_open]
        for one in self.open:
            if self.draw.random() < 0.4:
                one.push(self.draw.choice((1, 1, 1, 2, 9)))


def run(num_slots, seed, round_steps=4, broken=HashingModel):
    lengths = some_lengths(24, seed)
    wholes = streams_of(lengths, seed)
    draw = random.Random(seed)
    scripted = [
        ScriptedStream(one, draw.choice((None, None, 0, 1, one.num_frames // 2 + 1)))
        for one in wholes[::2]
    ]
    source = RandomSource(scripted, wholes[1::2], seed, starts_at_once=num_slots)
    engine = step_engine(broken(num_slots), round_steps=round_steps, live=True)
    finished = {one.stream.stream_id: one for one in engine.run_source(source)}
    return scripted, wholes[1::2], finished


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_slots", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("round_steps", [1, 4])
def test_a_pushed_stream_says_what_the_whole_one_says_alone(num_slots, seed, round_steps):
    assert_same_as_alone(*run(num_slots, seed, round_steps))


def assert_same_as_alone(scripted, others, finished):
    assert [finished[one.stream_id].tokens_T.tolist() for one in others] == [
        tokens_alone(one, FRAME_SAMPLES) for one in others
    ]
    for one in scripted:
        alone = tokens_alone(one.whole, FRAME_SAMPLES)
        if one.num_until_cancel is None:
            assert one.tokens == alone
        else:
            assert one.tokens == alone[: len(one.tokens)]
            assert not one.has_ended
            assert len(one.tokens) <= one.num_until_cancel + 9


class ForgetsHeldSlots(HashingModel):
    def run(self, steps, codes):
        steps.forced_TS[steps.forced_TS == -2] = -1
        return super().run(steps, codes)


def test_a_model_that_steps_held_slots_is_caught():
    with pytest.raises((AssertionError, IndexError)):  # beyond its prompt
        assert_same_as_alone(*run(8, 0, broken=ForgetsHeldSlots))


class Quiet:
    """A source whose only events are those of the test."""

    def __init__(self, *streams):
        self.waiting, self.num_waits, self.on_wait = deque(streams), 0, lambda: None

    def take(self, *, wait):
        return self.waiting.popleft() if self.waiting else None

    def receive(self, *, wait):
        if wait:
            self.num_waits += 1
            self.on_wait()


def live_stream(name="a"):
    heard = []
    return LiveStream(name, heard.append, FRAME_SAMPLES), heard


def frames(count):
    return np.ones(count * FRAME_SAMPLES, np.int16)


def test_a_stream_without_a_new_frame_costs_no_step_and_keeps_its_slot():
    scheduler = Scheduler([4, 2], 4)
    (a, _), (b, _) = live_stream("a"), live_stream("b")
    source = Quiet(a, b)
    first = scheduler.plan(source, wait=False)
    assert [(one.slot, one.num_steps) for one in first.segments] == [(0, 1), (1, 1)]
    assert scheduler.plan(source, wait=False) is None
    b.push(frames(1))
    second = scheduler.plan(source, wait=False)
    assert [(one.slot, one.first_step, one.num_steps) for one in second.segments] == [(1, 1, 1)]
    assert second.holds == ((0, 0, 1),)
    assert scheduler.plan(source, wait=False) is None


def test_the_engine_waits_while_every_stream_is_idle_and_ends_with_the_last():
    a, heard = live_stream()
    source = Quiet(a)
    source.on_wait = lambda: a.push(frames(1)) if source.num_waits < 5 else a.cancel()
    engine = step_engine(HashingModel(2), live=True)
    assert list(engine.run_source(source)) == []
    assert source.num_waits == 5
    assert [len(one.tokens_T) for one in heard] == [1, 1, 1, 1, 1]
    assert engine.stats.num_steps == 5


def rounds_of(*streams):
    """Steps by slot of the next round; each stream has made its first step."""
    scheduler, source = Scheduler([4], 4), Quiet(*streams)
    scheduler.plan(source, wait=False)
    return lambda: {one.slot: one.num_steps for one in scheduler.plan(source, wait=False).segments}


def test_a_stream_that_is_behind_takes_several_steps_in_a_round_if_nobody_waits():
    a, _ = live_stream()
    next_round = rounds_of(a)
    a.push(frames(10))
    assert next_round() == {0: 4}


def test_a_stream_that_is_behind_takes_one_step_in_a_round_while_another_waits_for_its_next_frame():
    (a, _), (b, _) = live_stream("a"), live_stream("b")
    next_round = rounds_of(a, b)
    a.push(frames(10))
    assert next_round() == {0: 1}
    b.push(frames(1))
    assert next_round() == {0: 1, 1: 1}
    assert next_round() == {0: 1}


def test_an_idle_stream_does_not_shorten_the_rounds_of_others_until_it_has_a_frame_again():
    (a, _), (b, _) = live_stream("a"), live_stream("b")
    next_round = rounds_of(a, b)
    a.push(frames(200))
    rounds = [next_round() for _ in range(IDLE_ROUNDS + 2)]
    assert rounds == [{0: 1}] * IDLE_ROUNDS + [{0: 4}] * 2
    b.push(frames(1))
    assert next_round() == {0: 1, 1: 1}
    assert next_round() == {0: 1}


def test_a_live_stream_takes_whole_frames_only_and_none_when_closed():
    a, _ = live_stream()
    with pytest.raises(ValueError, match="5 samples are not whole frames of 4"):
        a.push(np.zeros(5, np.int16))
    a.close()
    with pytest.raises(RuntimeError, match="closed"):
        a.push(frames(1))


def test_a_stream_closed_after_its_last_step_frees_its_slot_without_a_step():
    scheduler = Scheduler([1], 4)
    (a, _), (b, _) = live_stream("a"), live_stream("b")
    source = Quiet(a, b)
    scheduler.plan(source, wait=False)
    assert scheduler.plan(source, wait=False) is None  # b waits for the slot
    a.close()
    (segment,) = scheduler.plan(source, wait=False).segments
    assert (segment.stream, segment.slot, segment.first_step) == (b, 0, 0)


def test_idle_streams_never_move_without_a_round():
    scheduler = Scheduler([8, 4, 2], 1)
    streams = [live_stream(index)[0] for index in range(6)]
    source = Quiet(*streams)
    scheduler.plan(source, wait=False)
    for stream in streams[:4]:
        stream.cancel()
    assert scheduler.plan(source, wait=False) is None
    streams[5].push(frames(1))
    planned = scheduler.plan(source, wait=False)
    assert planned.moves == ((4, 0), (5, 1))
    assert planned.segments[0].slot == 1
    assert planned.holds == ((0, 0, 1),)


def test_frames_that_were_read_are_forgotten():
    a, _ = live_stream()
    for _ in range(100):
        a.push(frames(3))
        a.samples[(a.num_frames - 3) * FRAME_SAMPLES : a.num_frames * FRAME_SAMPLES]
    assert not a.samples._frames
    assert a.num_frames == 300
