"""A cluster whose machines come and go: the table of one that nobody touched."""

import time
from dataclasses import replace

import pytest

from tests.chaos.attempt import Attempt
from tests.chaos.raylets import Raylets, parent_of
from tests.chaos.tables import archive, store_at, tables

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]

GIVE_UP_S = 1500.0
NUM_RECORDINGS = 40


def wait_until(is_true, process):
    deadline_s = time.monotonic() + GIVE_UP_S
    while not is_true():
        assert process.is_alive(), "the run ended before it could be disturbed"
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def finish(process):
    process.join(GIVE_UP_S)
    assert process.exitcode == 0


def check_undisturbed(attempt, store, folder):
    """The tables are those of a run that nothing disturbed."""
    calm = replace(attempt, output=str(folder / "calm"))
    finish(calm.begin(folder / "calm.log"))
    assert tables(store) == tables(store_at(calm.output, None))
    assert len(tables(store)[0]) == NUM_RECORDINGS


@pytest.mark.parametrize("num_executors", [1, 2])
def test_half_of_eight_nodes_may_be_lost_at_once(tmp_path, num_executors):
    archive(store_at(str(tmp_path / "in"), None), NUM_RECORDINGS)
    with Raylets(8, cpus_each=1) as raylets:
        attempt = Attempt(
            input=str(tmp_path / "in"),
            output=str(tmp_path / "out"),
            scratch=str(tmp_path / "scratch"),
            address=raylets.address,
            num_actors=4,
            num_executors=num_executors,
        )
        store = store_at(attempt.output, None)
        process = attempt.begin(tmp_path / "out.log")
        wait_until(lambda: list(store.entries("_run/parts/")), process)
        for _ in range(4):
            raylets.lose(0)
        for _ in range(4):
            raylets.join()
        finish(process)
        check_undisturbed(attempt, store, tmp_path)


def test_a_lost_head_ends_the_driver_and_the_same_command_goes_on_elsewhere(tmp_path):
    archive(store_at(str(tmp_path / "in"), None), NUM_RECORDINGS)
    with Raylets(2) as raylets:
        attempt = Attempt(
            input=str(tmp_path / "in"),
            output=str(tmp_path / "out"),
            scratch=str(tmp_path / "scratch"),
            address=raylets.address,
        )
        store = store_at(attempt.output, None)
        process = attempt.begin(tmp_path / "out.log")
        wait_until(lambda: list(store.entries("_run/parts/")), process)
        committed = {entry.key for entry in store.entries("_run/parts/")}
        raylets.end()
        process.join(GIVE_UP_S)
        assert process.exitcode != 0
        raylets.start()
        elsewhere = replace(attempt, address=raylets.address)
        finish(elsewhere.begin(tmp_path / "again.log"))
        assert committed <= {entry.key for entry in store.entries("_run/parts/")}
        check_undisturbed(elsewhere, store, tmp_path)


def test_a_run_grows_and_shrinks_with_its_cluster(tmp_path):
    """As an autoscaler would: two nodes join a run that has begun on two, and two leave."""
    archive(store_at(str(tmp_path / "in"), None), NUM_RECORDINGS)
    with Raylets(2, cpus_each=1) as raylets:
        attempt = Attempt(
            input=str(tmp_path / "in"),
            output=str(tmp_path / "out"),
            scratch=str(tmp_path / "scratch"),
            address=raylets.address,
            num_actors=4,
            min_actors=2,
        )
        store = store_at(attempt.output, None)
        process = attempt.begin(tmp_path / "out.log")

        def num_nodes_with_a_transcriber():
            return len(set(map(parent_of, raylets.workers("TranscribingActor"))))

        wait_until(lambda: list(store.entries("_run/parts/")), process)
        assert num_nodes_with_a_transcriber() <= 2
        raylets.join()
        raylets.join()
        wait_until(lambda: num_nodes_with_a_transcriber() >= 3, process)
        raylets.drain(0)
        raylets.drain(1)
        raylets.lose(1)
        raylets.lose(0)
        finish(process)
        calm = replace(attempt, output=str(tmp_path / "calm"), num_actors=1, min_actors=None)
        finish(calm.begin(tmp_path / "calm.log"))
        assert tables(store) == tables(store_at(calm.output, None))
        assert len(tables(store)[0]) == NUM_RECORDINGS


def test_work_spreads_and_nodes_may_be_lost_drained_and_added(tmp_path):
    archive(store_at(str(tmp_path / "in"), None), NUM_RECORDINGS)
    with Raylets(3) as raylets:
        attempt = Attempt(
            input=str(tmp_path / "in"),
            output=str(tmp_path / "calm"),
            scratch=str(tmp_path / "scratch"),
            address=raylets.address,
            num_actors=3,
        )
        finish(attempt.begin(tmp_path / "calm.log"))
        disturbed = replace(attempt, output=str(tmp_path / "out"))
        store = store_at(disturbed.output, None)
        process = disturbed.begin(tmp_path / "out.log")
        seen = set()

        def is_spread():
            seen.update(map(parent_of, raylets.workers("TranscribingActor")))
            seen.update(map(parent_of, raylets.workers("read_packets")))
            return len(seen) >= 2 and list(store.entries("_run/parts/"))

        wait_until(is_spread, process)
        raylets.lose(0)
        raylets.join()
        num_parts = len(list(store.entries("_run/parts/")))
        wait_until(lambda: len(list(store.entries("_run/parts/"))) > num_parts, process)
        raylets.drain(0)
        raylets.join()
        raylets.lose(0)
        finish(process)
        assert tables(store) == tables(store_at(attempt.output, None))
        assert len(tables(store)[0]) == NUM_RECORDINGS
