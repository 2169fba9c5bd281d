"""Busy and waiting time, by a clock that the test sets."""

import pytest

from nightscribe.runs.progress import StageTime, Stopwatch, timed


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("nightscribe.runs.progress.time.monotonic", lambda: now[0])

    def pass_by(seconds):
        now[0] += seconds

    return pass_by


def test_a_worker_is_busy_while_it_has_anything_to_do(clock):
    watch = Stopwatch()
    clock(1)
    with watch:
        clock(2)
        with watch:
            clock(4)
        clock(8)
    clock(16)
    assert watch.take() == StageTime(busy_s=14.0, waiting_s=17.0)
    clock(32)
    assert watch.take() == StageTime(busy_s=0.0, waiting_s=32.0)


def test_making_items_is_busy_time_and_handing_them_on_is_waiting(clock):
    def making():
        for thing in "abc":
            clock(2)
            yield thing

    watch, things = Stopwatch(), []
    for thing in timed(making(), watch):
        things.append(thing)
        clock(5)
    assert things == ["a", "b", "c"]
    assert watch.take() == StageTime(busy_s=6.0, waiting_s=15.0)
