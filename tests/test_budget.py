"""A night begins nothing that would end after its deadline or beyond its budget."""

from datetime import datetime

import pytest

from nightscribe.budget import in_flight_s, limits_of, seconds_until

NOW = datetime(2026, 11, 30, 22, 0)


def limits(deadline=None, budget=None, price=None, num_gpus=1.0):
    return limits_of(deadline, budget, price, "EUR", num_gpus, NOW)


@pytest.mark.parametrize(
    ("deadline", "left_s"),
    [("07:00", 9 * 3600), ("22:30", 1800), ("22:00", 24 * 3600), ("2026-12-01T07:00", 9 * 3600)],
)
def test_a_time_of_day_is_the_next_one(deadline, left_s):
    assert seconds_until(deadline, NOW) == left_s


@pytest.mark.parametrize(
    ("deadline", "sentence"),
    [
        ("2026-11-30T21:00", "deadline 2026-11-30T21:00 has passed: it is 2026-11-30T22:00"),
        ("25:00", "expected a time such as 07:00"),
        ("soon", "expected a time such as 07:00"),
    ],
)
def test_a_deadline_that_cannot_be_kept_is_refused(deadline, sentence):
    with pytest.raises(ValueError, match=sentence):
        limits(deadline)


def test_a_budget_needs_a_price():
    with pytest.raises(ValueError, match="budget=40 needs a price: set price_per_gpu_hour"):
        limits(budget=40.0)


def test_nothing_begins_that_would_end_after_the_deadline():
    nine_hours = limits("07:00")
    assert nine_hours.reason_to_stop(8.9 * 3600, 300) is None
    assert nine_hours.reason_to_stop(8.9 * 3600, 400) == "the deadline 07:00 is near"


def test_a_budget_is_spent_by_all_gpus_together():
    for num_gpus, hours in ((1, 10), (4, 2.5)):
        limited = limits(budget=35.0, price=3.5, num_gpus=num_gpus)
        assert limited.reason_to_stop((hours - 0.1) * 3600, 0.0) is None
        assert limited.reason_to_stop((hours + 0.1) * 3600, 0.0) == (
            "the budget of 35 EUR is used up"
        )
        assert limited.cost(hours * 3600) == 35.0


def test_without_limits_nothing_stops_and_nothing_costs():
    assert limits().reason_to_stop(1e9, 1e9) is None
    assert limits().cost(3600.0) is None


def test_what_is_in_the_slots_takes_its_share_of_the_speed():
    # 64 slots with shards of 30 s at 100 x real time: 19.2 s.
    assert in_flight_s(64, 640, 19_200.0, 100.0) == pytest.approx(19.2)
    assert in_flight_s(64, 10, 300.0, 1.0) == 0.0  # the first shards also waited for the model
