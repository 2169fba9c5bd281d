import random
from dataclasses import replace

import numpy as np
import pytest

from nightscribe.engine.interface import Chunk, RoundInput
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream
from tests.fakes import HashingModel, HashingRound, tokens_alone

SLOT_COUNTS = (1, 2, 3, 8, 17, 32)


def streams_of(lengths, seed=0):
    draws = np.random.default_rng(seed)
    return [
        Stream(
            stream_id=index,
            samples=draws.integers(-32768, 32767, num_frames * 4 - index % 4).astype(np.int16),
            num_frames=num_frames,
            forced_tokens=(5, 6, 7)[: min(index % 5, num_frames, 3)],
            prompt_tokens=tuple(range(index % 23)) if index % 3 == 1 else (),
            temperature=0.25 * (index % 4) if index % 3 == 2 else 0.0,
            seed=index * (index % 2),
            num_silent_samples=(0, 4, 7, 130)[index % 4],
        )
        for index, num_frames in enumerate(lengths)
    ]


def some_lengths(count, seed):
    draw = random.Random(seed)
    return [draw.choice((1, 2, 6, 7, 8, 25, 26, 60, draw.randint(1, 200))) for _ in range(count)]


def outputs_of(model, streams, round_steps=7, **config):
    engine = step_engine(model, round_steps=round_steps, **config)
    return {heard.stream.stream_id: heard for heard in engine.run(streams)}


def assert_same_as_alone(heard, streams):
    assert len(heard) == len(streams)
    for stream in streams:
        assert heard[stream.stream_id].tokens_T.tolist() == tokens_alone(stream, 4)


@pytest.mark.parametrize("num_slots", SLOT_COUNTS)
@pytest.mark.parametrize("round_steps", [1, 2, 7, 25])
def test_neighbours_slots_order_and_rounds_never_change_a_stream(num_slots, round_steps):
    streams = streams_of(some_lengths(60, seed=num_slots))
    for order_seed in (0, 1):
        shuffled = random.Random(order_seed).sample(streams, len(streams))
        heard = outputs_of(HashingModel(num_slots), shuffled, round_steps)
        assert_same_as_alone(heard, streams)


def test_a_fixed_number_of_slots_changes_nothing():
    streams = streams_of(some_lengths(40, seed=3))
    assert_same_as_alone(outputs_of(HashingModel(32), streams, reproducible=True), streams)


def test_confidences_and_heads_belong_to_their_tokens():
    streams = streams_of(some_lengths(30, seed=4))
    for heard in outputs_of(HashingModel(5, num_vad_heads=2), streams).values():
        np.testing.assert_array_equal(
            heard.confidences_T, (heard.tokens_T / 9973).astype(np.float32)
        )
        np.testing.assert_array_equal(heard.vad_TH, heard.confidences_T[:, None].repeat(2, 1))


class DoesNotResetTheCodec(HashingModel):
    def encode(self, chunk: Chunk):
        return super().encode(replace(chunk, fresh_J=np.zeros_like(chunk.fresh_J)))


class DoesNotResetTokens(HashingModel):
    def forget(self, is_fresh_S, state_S, prompted_S):
        prompted_S[is_fresh_S] = 0


class DoesNotResetPrompts(HashingModel):
    def forget(self, is_fresh_S, state_S, prompted_S):
        state_S[is_fresh_S] = 0


class MixesSeeds(HashingModel):
    def run(self, steps: RoundInput, codes):
        seeds_TS = np.roll(steps.seeds_TS, 1, axis=1)
        return super().run(replace(steps, seeds_TS=seeds_TS), codes)


class DoesNotMove(HashingModel):
    def move(self, sources, targets):
        pass


class UsesItsNeighboursCodes(HashingModel):
    def run(self, steps: RoundInput, codes):
        neighbours_TS = np.roll(steps.code_rows_TS, 1, axis=1)
        return super().run(replace(steps, code_rows_TS=neighbours_TS), codes)


@pytest.mark.parametrize(
    "broken",
    [
        DoesNotResetTheCodec,
        DoesNotResetTokens,
        DoesNotResetPrompts,
        DoesNotMove,
        UsesItsNeighboursCodes,
        MixesSeeds,
    ],
)
def test_a_model_that_mixes_streams_is_caught(broken):
    streams = streams_of([200, *some_lengths(60, seed=1), 300])
    with pytest.raises((AssertionError, IndexError)):  # beyond its prompt
        assert_same_as_alone(outputs_of(broken(32), streams), streams)


def test_streams_are_pulled_only_when_a_slot_is_free():
    streams = streams_of(some_lengths(100, seed=6))
    num_pulled = 0

    def pulled():
        nonlocal num_pulled
        for stream in streams:
            num_pulled += 1
            yield stream

    engine = step_engine(HashingModel(4), round_steps=1)
    for num_heard, _ in enumerate(engine.run(pulled()), start=1):
        # Of one-step rounds two are under way: one that is read, one that runs.
        assert num_pulled - num_heard <= 4 + 2 * 4


def test_results_come_while_other_streams_still_run():
    streams = streams_of([500, 3])
    order = [heard.stream.stream_id for heard in step_engine(HashingModel(2)).run(streams)]
    assert order == [1, 0]


def test_occupancy_counts_the_drain_and_shrinks_with_it():
    lengths = sorted(some_lengths(300, seed=7), reverse=True) + [1] * 50
    wide, shrinking = (
        step_engine(HashingModel(32), reproducible=reproducible) for reproducible in (True, False)
    )
    for engine in (wide, shrinking):
        assert len(list(engine.run(streams_of([2000, *lengths])))) == 351
        assert engine.stats.num_live_steps == 2001 + sum(lengths) + len(lengths)
    assert wide.stats.occupancy < 0.35
    assert shrinking.stats.occupancy > wide.stats.occupancy
    assert shrinking.stats.num_slot_steps < 8 * 2000 + 1.2 * (sum(lengths) + len(lengths))


def test_the_next_round_is_queued_before_the_last_is_read(monkeypatch):
    events, run, wait = [], HashingModel.run, HashingRound.wait
    monkeypatch.setattr(HashingModel, "run", lambda *args: (events.append("queue"), run(*args))[1])
    monkeypatch.setattr(HashingRound, "wait", lambda said: (events.append("read"), wait(said))[1])
    outputs_of(HashingModel(2), streams_of([60, 50]), round_steps=25)
    assert events == ["queue", "queue", "read", "queue", "read", "read"]


def test_an_abandoned_run_leaves_nothing_behind():
    streams = streams_of(some_lengths(30, seed=9))
    engine = step_engine(HashingModel(8), round_steps=5)
    next(iter(engine.run(streams)))
    assert_same_as_alone({h.stream.stream_id: h for h in engine.run(streams)}, streams)
