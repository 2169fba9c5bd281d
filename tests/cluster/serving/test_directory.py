"""Which engine a session goes to."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from nightscribe.cluster.serving.directory import (
    ARRIVAL_S,
    FORGOTTEN_S,
    LOST_S,
    EngineDirectory,
    EngineReport,
)


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self):
        return self.now_s


def report(name, num_slots=4, num_used=0, num_connects=0, is_draining=False):
    return EngineReport(
        engine_id=name,
        address=f"{name}:1",
        num_slots=num_slots,
        num_used=num_used,
        num_connects=num_connects,
        is_draining=is_draining,
    )


def directory_of(*reports):
    clock = Clock()
    directory = EngineDirectory(clock)
    for one in reports:
        directory.report(one)
    return directory, clock


def test_the_engine_with_the_most_free_slots_is_next():
    directory, _ = directory_of(report("a", num_used=3), report("b", num_used=1))
    assert [directory.choose() for _ in range(5)] == ["b:1", "b:1", "a:1", "b:1", None]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=5))
def test_no_slot_is_promised_twice(engines):
    reports = [report(str(i), s, min(u, s)) for i, (s, u) in enumerate(engines)]
    directory, _ = directory_of(*reports)
    chosen = []
    while (address := directory.choose()) is not None:
        chosen.append(address)
    for one in reports:
        assert chosen.count(one.address) == one.num_slots - one.num_used


def test_a_session_that_arrived_is_not_counted_twice():
    directory, _ = directory_of(report("a"))
    directory.choose(), directory.choose()
    directory.report(report("a", num_used=1, num_connects=1))
    assert [directory.choose() for _ in range(3)] == ["a:1", "a:1", None]


def test_a_promise_to_a_client_that_never_comes_ends():
    directory, clock = directory_of(report("a", num_slots=1))
    assert (directory.choose(), directory.choose()) == ("a:1", None)
    clock.now_s += ARRIVAL_S + 1
    directory.report(report("a", num_slots=1))
    assert directory.choose() == "a:1"


def test_engines_that_drain_or_are_silent_get_no_sessions():
    directory, clock = directory_of(report("a", is_draining=True))
    assert directory.choose() is None
    assert directory.choose(takes_slot=False) is None
    directory.report(report("a"))
    clock.now_s += LOST_S + 1
    assert directory.choose() is None
    assert directory.engines() == []


def test_a_full_engine_still_answers_other_requests():
    directory, _ = directory_of(report("a", num_used=4))
    assert directory.choose() is None
    assert directory.choose(takes_slot=False) == "a:1"


def test_the_drain_of_everything_is_told_with_each_report_and_stops_all_choices():
    directory, _ = directory_of(report("a"))
    assert directory.report(report("a")) is None
    directory.drain(30.0)
    assert directory.report(report("b")) == 30.0
    assert directory.choose() is None


def test_an_engine_that_left_is_forgotten_and_one_that_died_after_a_while():
    directory, clock = directory_of(report("a"), report("b"))
    directory.leave("a")
    assert [one["address"] for one in directory.engines()] == ["b:1"]
    clock.now_s += FORGOTTEN_S + 1
    directory.report(report("c"))
    assert [one["address"] for one in directory.engines()] == ["c:1"]
    assert list(directory._engines) == ["c"]
