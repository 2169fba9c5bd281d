"""How the recordings of a plan become read tasks."""

import numpy as np
import pytest

from nightscribe.cluster.read_tasks import MAX_TASKS, task_ends

HOUR_S = 3600.0


def tasks(lengths_s, num_workers, packet_s=300.0):
    """The lengths of the recordings of each task."""
    found = np.split(np.array(lengths_s), task_ends(np.array(lengths_s), num_workers, packet_s))
    assert not len(found[-1])
    return [one.tolist() for one in found[:-1]]


def test_nothing_is_left_out_and_the_order_stays():
    lengths_s = np.random.default_rng(0).uniform(1, 5000, 999).tolist()
    assert [one for task in tasks(lengths_s, 3) for one in task] == lengths_s


@pytest.mark.parametrize(("num_recordings", "num_workers", "most"), [(3, 4, 1), (100, 5, 5)])
def test_every_audio_worker_gets_several_tasks(num_recordings, num_workers, most):
    assert max(len(task) for task in tasks([10.0] * num_recordings, num_workers)) == most


def test_long_recordings_are_tasks_of_their_own_and_short_ones_share():
    lengths_s = [10 * HOUR_S, 8 * HOUR_S, *[1500.0] * 4, *[10.0] * 600]
    found = [len(task) for task in tasks(lengths_s, num_workers=1)]
    assert found == [1, 1, 2, 2, 300, 300]


@pytest.mark.parametrize("length_s", [0.0, 5.0, 90.0, HOUR_S])
def test_a_million_recordings_are_a_few_thousand_tasks(length_s):
    ends_T = task_ends(np.full(10**6, length_s), num_workers=960, packet_s=2700.0)
    assert len(ends_T) <= 2 * MAX_TASKS
    assert ends_T[-1] == 10**6


@pytest.mark.parametrize("packet_s", [10.0, 640.0, 2700.0])
def test_a_task_of_a_large_plan_makes_several_packets_so_that_few_are_not_full(packet_s):
    lengths_s = np.random.default_rng(0).uniform(10, 900, 20_000).tolist()
    found = tasks(lengths_s, num_workers=16, packet_s=packet_s)
    assert min(sum(task) for task in found[:-1]) >= 8 * packet_s


def test_large_packets_do_not_leave_a_worker_without_a_task():
    assert len(tasks([60.0] * 100, num_workers=5, packet_s=2700.0)) == 20
