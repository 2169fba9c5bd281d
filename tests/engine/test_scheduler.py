import random
from itertools import pairwise

import numpy as np
import pytest

from nightscribe.engine.scheduler import IterableSource, Scheduler
from nightscribe.engine.stream import Stream


def stream_of(num_frames, stream_id=0):
    return Stream(stream_id, np.zeros(num_frames, np.int16), num_frames)


def planned(slots, streams):
    source, rounds = IterableSource(streams), []
    while (one := slots.plan(source, wait=True)) is not None:
        rounds.append(one)
    return rounds


def timelines(rounds):
    """Per slot, (first step, end step, stream) in the order of the plan, moves followed."""
    lines, now = {}, 0
    for one in rounds:
        for segment in one.segments:
            start = now + segment.round_step
            lines.setdefault(segment.slot, []).append((start, start + segment.num_steps, segment))
        now += one.num_steps
    return lines


def lengths_of(count, seed):
    draw = random.Random(seed)
    return [draw.randint(1, draw.choice((3, 30, 200))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_no_slot_is_ever_booked_twice_and_no_stream_pauses(seed):
    slots = Scheduler([seed % 7 + 1], round_steps=25)
    rounds = planned(slots, [stream_of(n, i) for i, n in enumerate(lengths_of(50, seed))])
    heard_steps = {}
    for line in timelines(rounds).values():
        for (_, end, before), (start, _, after) in pairwise(sorted(line, key=lambda s: s[0])):
            assert end <= start
            if not before.is_last:
                assert (after.stream, after.first_step, end) == (
                    before.stream,
                    before.end_step,
                    start,
                )
        for _, _, segment in line:
            steps = heard_steps.setdefault(segment.stream.stream_id, [])
            steps += range(segment.first_step, segment.end_step)
    assert all(steps == list(range(len(steps))) for steps in heard_steps.values())


@pytest.mark.parametrize("seed", range(40))
def test_the_makespan_keeps_grahams_bound(seed):
    lengths = lengths_of(60, seed)
    num_slots = seed % 9 + 1
    rounds = planned(Scheduler([num_slots], 25), [stream_of(n) for n in lengths])
    num_steps, steps = sum(one.num_steps for one in rounds), [n + 1 for n in lengths]
    assert num_steps <= sum(steps) / num_slots + (1 - 1 / num_slots) * max(steps)


def test_a_slot_takes_the_next_stream_at_the_very_next_step():
    (first,) = planned(Scheduler([1], 25), [stream_of(4), stream_of(9), stream_of(2)])
    assert [(s.round_step, s.num_steps) for s in first.segments] == [(0, 5), (5, 10), (15, 3)]
    assert first.num_steps == 18


def test_live_streams_move_down_when_a_smaller_bucket_holds_them():
    lengths = [1, 1, 1, 200, 1, 100, 1, 30]
    rounds = planned(Scheduler([8, 4, 2, 1], 10), [stream_of(n, i) for i, n in enumerate(lengths)])
    assert [one.num_slots for one in rounds] == [8, 4, 4, 4] + [2] * 7 + [1] * 10
    assert rounds[1].moves == ((3, 0), (5, 1), (7, 2))
    assert rounds[4].moves == rounds[11].moves == ()


def test_nothing_moves_while_streams_still_come():
    rounds = planned(Scheduler([8, 4, 2, 1], 10), [stream_of(n) for n in lengths_of(200, 1)])
    moved = [index for index, one in enumerate(rounds) if one.moves]
    last_admission = max(
        index for index, one in enumerate(rounds) for s in one.segments if s.first_step == 0
    )
    assert all(index > last_admission for index in moved)


def test_nothing_moves_when_streams_come_again_after_a_while_without():
    come = [4] * 4 + [19] * 4 + [None] + [99] * 4 + [9] * 20
    streams: list = [n and stream_of(n, i) for i, n in enumerate(come)]
    source = IterableSource(streams)
    slots = Scheduler([8, 4], 10)
    first, second, third = (slots.plan(source, wait=True) for _ in range(3))
    assert [len(one.segments) for one in (first, second, third)] == [8, 8, 8]
    assert second.moves == ((4, 0), (5, 1), (6, 2), (7, 3))
    assert first.moves == third.moves == ()


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="positive"):
        Scheduler([0], 25)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        Scheduler([1], 0)
    with pytest.raises(ValueError, match="0 frames"):
        stream_of(0)
    with pytest.raises(ValueError, match="3 forced tokens"):
        Stream(1, np.zeros(4, np.int16), 1, forced_tokens=(1, 2, 3))
