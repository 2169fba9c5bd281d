"""Cuts: a function of the samples, owned spans that leave nothing out, pauses preferred."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscribe.audio.segmentation import (
    FRAME_S,
    HOP_S,
    ShardConfig,
    ShardSamples,
    cut,
    probable_shards,
)

RATE_HZ = 1000
SHORT = ShardConfig(max_s=6.0, search_s=3.0, pause_s=0.2, margin_s=0.1, overlap_s=0.5)


def speech(duration_s: float, pauses_s: list[tuple[float, float]] = (), seed: int = 0):
    """Noise with silence in the given spans."""
    samples_N = np.random.default_rng(seed).integers(
        -9000, 9000, round(duration_s * RATE_HZ), dtype=np.int16
    )
    for start_s, end_s in pauses_s:
        samples_N[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)] = 0
    return samples_N


def in_blocks(samples_N, sizes):
    place = 0
    for size in sizes:
        yield samples_N[place : place + size]
        place += size
    yield samples_N[place:]


def shards(samples_N, config=SHORT, sizes=(), cut_points_s=()) -> list[ShardSamples]:
    return list(cut(in_blocks(samples_N, sizes), RATE_HZ, config, cut_points_s))


def bounds(cuts: list[ShardSamples]) -> list[tuple[int, ...]]:
    return [(c.start_sample, c.owned_start_sample, c.owned_end_sample, c.end_sample) for c in cuts]


@st.composite
def waveforms(draw):
    duration_s = draw(st.floats(0.001, 40))
    starts_s = draw(st.lists(st.floats(0, 40), max_size=8))
    pauses_s = [(start_s, start_s + draw(st.floats(0, 2))) for start_s in starts_s]
    return speech(duration_s, pauses_s, draw(st.integers(0, 3)))


@st.composite
def configs(draw):
    """Whatever is allowed, down to the shortest limit."""
    search_s, overlap_s = draw(st.floats(HOP_S, 4)), draw(st.floats(0, 1))
    room_s = search_s + 2 * overlap_s + FRAME_S
    return ShardConfig(
        max_s=room_s + draw(st.just(0.0) | st.floats(0, 5)),
        search_s=search_s,
        pause_s=draw(st.floats(HOP_S, search_s)),
        margin_s=draw(st.floats(0, overlap_s)),
        overlap_s=overlap_s,
    )


@given(waveforms(), st.lists(st.integers(1, 5000), max_size=20))
@settings(max_examples=60, deadline=None)
def test_block_sizes_never_change_a_cut(samples_N, sizes):
    assert bounds(shards(samples_N, sizes=sizes)) == bounds(shards(samples_N))


@given(waveforms(), configs(), st.lists(st.floats(0.01, 40), max_size=4))
@settings(max_examples=100, deadline=None)
def test_every_sample_is_owned_once_and_included(samples_N, config, cut_points_s):
    cuts = shards(samples_N, config, cut_points_s=cut_points_s)
    assert [c.index for c in cuts] == list(range(len(cuts)))
    assert [c.is_last for c in cuts] == [False] * (len(cuts) - 1) + [True]
    owned = np.concatenate(
        [
            c.samples_N[c.owned_start_sample - c.start_sample :][
                : c.owned_end_sample - c.owned_start_sample
            ]
            for c in cuts
        ]
    )
    np.testing.assert_array_equal(owned, samples_N)
    for c in cuts:
        np.testing.assert_array_equal(c.samples_N, samples_N[c.start_sample : c.end_sample])
        assert len(c.samples_N) <= round(config.max_s * RATE_HZ)
        assert c.start_sample % round(FRAME_S * RATE_HZ) == 0


def test_a_cut_falls_into_the_pause():
    cuts = shards(speech(10, [(4.0, 4.5)]))
    assert 4.0 * RATE_HZ <= cuts[0].owned_end_sample <= 4.5 * RATE_HZ
    assert cuts[0].end_sample - cuts[0].owned_end_sample == SHORT.margin_s * RATE_HZ


def test_a_pause_as_short_as_asked_is_cut_in_its_middle():
    cuts = shards(speech(10, [(4.1, 4.3)]))
    assert cuts[0].owned_end_sample == 4.2 * RATE_HZ


def test_a_pause_before_the_searched_window_is_not_used():
    cuts = shards(speech(10, [(1.0, 2.0)]))
    latest_s = SHORT.max_s - SHORT.overlap_s
    assert cuts[0].owned_end_sample >= (latest_s - SHORT.search_s) * RATE_HZ


@pytest.mark.parametrize(
    ("loud", "quiet", "is_pause"),
    [(10_000, 1000, True), (10_000, 1001, False), (33, 33, True), (34, 34, False)],
)
def test_a_pause_is_20_dB_below_what_is_loud_or_below_60_dB_of_full_scale(loud, quiet, is_pause):
    samples_N = np.full(10 * RATE_HZ, loud, np.int16)
    samples_N[4 * RATE_HZ : 4 * RATE_HZ + 500] = quiet
    first = shards(samples_N)[0]
    overlap_s = SHORT.margin_s if is_pause else SHORT.overlap_s
    assert first.end_sample - first.owned_end_sample == overlap_s * RATE_HZ


def test_without_a_pause_neighbours_overlap_more():
    first, second = shards(speech(10))[:2]
    overlap = SHORT.overlap_s * RATE_HZ
    assert first.end_sample - first.owned_end_sample == overlap
    assert 0 <= second.owned_start_sample - second.start_sample - overlap < FRAME_S * RATE_HZ


def test_silence_is_cut_in_its_middle():
    first = shards(speech(10, [(3.0, 5.0)]))[0]
    assert first.owned_end_sample == pytest.approx(4.0 * RATE_HZ, abs=0.1 * RATE_HZ)


def test_a_recording_as_long_as_the_limit_is_one_shard():
    assert len(shards(speech(SHORT.max_s))) == 1
    assert len(shards(speech(SHORT.max_s + 0.001))) == 2


def test_null_never_cuts():
    never = ShardConfig(max_s=None)
    assert bounds(shards(speech(100), never, sizes=[7] * 1000)) == [(0, 0, 100_000, 100_000)]


def test_requested_cuts_are_made():
    cuts = shards(speech(9), cut_points_s=[2.0, 4.5])
    assert [c.owned_end_sample for c in cuts] == [2000, 4500, 9000]


def test_requested_cuts_are_made_up_to_the_longest_shard():
    assert bounds(shards(speech(9), cut_points_s=[5.9]))[0] == (0, 0, 5900, 6000)
    cuts = shards(speech(9), cut_points_s=[5.95])
    assert cuts[0].owned_end_sample < 5900
    assert cuts[1].owned_end_sample == 5950


def test_a_short_shard_overlaps_its_neighbours_by_at_most_its_length():
    cuts = shards(speech(4), cut_points_s=[2.0, 2.05])
    assert [c.end_sample - c.owned_end_sample for c in cuts] == [100, 50, 0]


def test_no_cut_is_made_where_its_margin_is_beyond_the_end():
    assert len(shards(speech(2.1), cut_points_s=[2.0])) == 1
    assert len(shards(speech(2.101), cut_points_s=[2.0])) == 2


def test_no_samples_give_no_shards():
    assert shards(np.zeros(0, np.int16)) == []


def test_only_one_shard_is_held_however_long_the_recording():
    alive = 0

    def watched():
        for second in range(3600):
            yield speech(1, seed=second)

    for shard in cut(watched(), RATE_HZ, SHORT):
        alive = max(alive, len(shard.samples_N))
    assert alive <= SHORT.max_s * RATE_HZ


@pytest.mark.parametrize(
    "wrong",
    [
        *({"max_s": 5.0}, {"max_s": 24.079}),
        *({"pause_s": 30.0}, {"pause_s": 0.01}, {"search_s": 0.0}),
        *({"margin_s": 2.1}, {"margin_s": -0.1}, {"overlap_s": -1.0}),
    ],
)
def test_options_that_leave_no_room_are_refused(wrong):
    with pytest.raises(ValueError, match=r"shard\."):
        ShardConfig(**wrong)


def test_options_may_go_to_their_limits():
    ShardConfig(max_s=24.08, pause_s=20.0, margin_s=2.0)
    ShardConfig(pause_s=HOP_S, margin_s=0.0)


@pytest.mark.parametrize(
    ("duration_s", "num_shards"), [(59, 1), (60, 1), (60.1, 2), (108, 2), (108.1, 3), (156.1, 4)]
)
def test_a_probable_shard_ends_in_the_middle_of_its_window(duration_s, num_shards):
    assert probable_shards(duration_s, ShardConfig()) == num_shards


@pytest.mark.parametrize("duration_s", [10, 59, 61, 130, 604, 1500])
def test_the_probable_shards_are_about_those_that_are_cut(duration_s):
    noise_N = np.random.default_rng(3).integers(-3000, 3000, duration_s * 1000).astype(np.int16)
    config = ShardConfig()
    num_shards = sum(1 for _ in cut([noise_N], 1000, config))
    assert probable_shards(duration_s, config) == pytest.approx(num_shards, abs=2, rel=0.1)
    assert probable_shards(duration_s, ShardConfig(max_s=None)) == 1
