"""How the recordings of a plan become read tasks."""

import pytest

from nightscribe.cluster.audio_task import MAX_TASKS, TaskSize, task_batches, task_size
from nightscribe.cluster.rows import remaining_of
from nightscribe.publishing import Remaining
from tests.cluster.stages import recording

HOUR_S = 3600.0


def tasks(lengths_s, size):
    """The lengths of the recordings of each task."""
    remaining = [Remaining(recording(n, s), frozenset()) for n, s in enumerate(lengths_s)]
    found = [list(remaining_of(table)) for table in task_batches(remaining, size)]
    assert [one for task in found for one in task] == remaining
    return [[one.recording.expected_s for one in task] for task in found]


@pytest.mark.parametrize(
    ("num_recordings", "num_audio_workers", "most"), [(3, 4, 1), (100, 5, 5), (1_000_000, 4, 64)]
)
def test_every_audio_worker_gets_several_tasks_of_not_too_many_recordings(
    num_recordings, num_audio_workers, most
):
    assert task_size(num_recordings, 1.0, num_audio_workers).num_recordings == most


def test_long_recordings_are_tasks_of_their_own_and_short_ones_share():
    lengths_s = [10 * HOUR_S, 8 * HOUR_S, 400.0, 300.0, 2.0, 1.0, 1.0]
    size = task_size(10_000, 5 * HOUR_S, num_workers=2)
    assert tasks(lengths_s, size) == [
        [10 * HOUR_S],
        [8 * HOUR_S],
        [400.0, 300.0],
        [2.0, 1.0, 1.0],
    ]


def test_no_task_has_more_recordings_than_it_may():
    assert [len(task) for task in tasks([1.0] * 10, TaskSize(4, HOUR_S))] == [4, 4, 2]


@pytest.mark.parametrize("length_s", [5.0, 90.0, HOUR_S])
def test_a_million_recordings_are_some_ten_thousand_tasks(length_s):
    size = task_size(10**6, 10**6 * length_s, num_workers=960)
    per_task = min(size.num_recordings, -(-size.duration_s // length_s))
    assert 10**6 / per_task <= MAX_TASKS
