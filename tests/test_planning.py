"""A plan holds every recording once, in an order that depends on nothing but the recordings."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.planning import PlanningConfig, estimated_s, plan
from nightscribe.records import Recording


def version_of(recording):
    return recording.version


found = st.builds(
    Recording,
    uri=st.text("abc/", max_size=4).map(lambda name: f"s3://archive/{name}.mp3"),
    size_bytes=st.integers(0, 10**9),
    version=st.sampled_from("uvwxyz"),
    channel=st.none() | st.integers(0, 1),
    start_s=st.sampled_from([0.0, 1.5]),
    expected_s=st.none() | st.floats(1, 1e5),
)
windows = st.builds(PlanningConfig, window_recordings=st.integers(1, 8))


@given(st.lists(found, max_size=40), windows)
def test_every_recording_is_planned_once(recordings, config):
    planned = [one.recording.recording_id for one in plan(recordings, version_of, config)]
    assert sorted(planned) == sorted({one.recording_id for one in recordings})


def test_a_duplicate_that_is_named_twice_is_planned_once():
    one, other = (Recording(uri=uri, size_bytes=1, version="same") for uri in ("a", "b"))
    planned = list(plan([one, other, other, one], version_of, PlanningConfig()))
    assert {p.recording.uri: p.duplicate_of for p in planned} == {"a": None, "b": one.recording_id}
    assert len(planned) == 2


@given(st.lists(found, max_size=40), windows)
def test_windows_follow_the_archive_and_hold_the_longest_first(recordings, config):
    planned = list(plan(recordings, version_of, config))
    places = range(len(planned))
    assert [one.window for one in planned] == [n // config.window_recordings for n in places]
    for _, window in groupby(planned, lambda one: one.window):
        lengths_s = [one.estimated_s for one in window]
        assert lengths_s == sorted(lengths_s, reverse=True)
        assert len(lengths_s) <= config.window_recordings


@given(st.lists(found, max_size=40), windows)
def test_a_duplicate_follows_an_original_with_the_same_bytes_span_and_channel(recordings, config):
    planned = list(plan(recordings, version_of, config))
    originals = {p.recording.recording_id: p.recording for p in planned if not p.duplicate_of}
    keys = [(p.version, p.channel, p.start_s, p.end_s) for p in originals.values()]
    assert len(keys) == len(set(keys))
    for copy in (p for p in planned if p.duplicate_of):
        original = originals[copy.duplicate_of]
        assert (copy.recording.version, copy.recording.channel, copy.recording.start_s) == (
            original.version,
            original.channel,
            original.start_s,
        )


@given(st.lists(found, max_size=40), st.randoms())
def test_within_a_window_the_order_of_finding_does_not_matter(recordings, order):
    recordings = list({recording.version: recording for recording in recordings}.values())
    first = list(plan(recordings, version_of, PlanningConfig()))
    order.shuffle(recordings)
    assert list(plan(recordings, version_of, PlanningConfig())) == first


def test_a_plan_streams_a_window_at_a_time():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Recording(uri=f"{taken}.mp3", size_bytes=1, version=f"{taken}")

    planned = plan(endless(), version_of, PlanningConfig(window_recordings=10))
    for _ in range(25):
        next(planned)
    assert taken == 30


@pytest.mark.parametrize(
    ("given_facts", "expected_s"),
    [
        ({"expected_s": 12.5, "start_s": 1.0, "end_s": 3.0}, 12.5),
        ({"start_s": 1.0, "end_s": 3.0}, 2.0),
        ({}, 100.0),
        ({"size_bytes": 1_234_567}, 77.2),
        ({"start_s": 40.0}, 60.0),
        ({"start_s": 400.0}, 0.0),
    ],
)
def test_a_length_is_taken_from_the_best_source(given_facts, expected_s):
    facts = {"size_bytes": 1_600_000} | given_facts
    recording = Recording(uri="a.MP3", version="1", **facts)
    assert estimated_s(recording) == expected_s


def test_a_window_holds_something():
    with pytest.raises(ValueError, match="window_recordings must be positive, got 0"):
        PlanningConfig(window_recordings=0)
