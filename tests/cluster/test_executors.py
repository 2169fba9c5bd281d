"""Executors that are killed while they work, and those that take their place."""

import os
import signal
from dataclasses import replace

import pytest

from nightscribe.cluster.executors import Executors, owner_of
from nightscribe.cluster.publish_tasks import DirectWriter
from nightscribe.publishing import Publisher
from nightscribe.runs.attempt import RunBrokenError
from nightscribe.runs.config import ClusterConfig
from nightscribe.runs.progress import Progress
from nightscribe.storage.local import LocalStore
from nightscribe.storage.run import begin, index_plan
from tests.cluster.stages import plan_file, recording
from tests.cluster.test_driver import order, run, spoken_directly, table
from tests.cluster.test_kills import descendants

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


def executors() -> list[int]:
    return [pid for pid, name in descendants(os.getpid()) if name.startswith("ray::Executor")]


def divided(recordings, folder):
    """A run of two executors that takes long enough to lose one."""
    asked = order(recordings, folder, pause_s=0.05)
    return replace(asked, cluster=ClusterConfig(drivers=2))


def test_every_recording_that_is_left_falls_to_one_executor(tmp_path):
    plan = plan_file([recording(n) for n in range(50)], tmp_path)
    begin(LocalStore(tmp_path / "out"), plan, {})
    index = index_plan(plan)
    publisher = Publisher(LocalStore(tmp_path / "out"), lambda: None, {}, lambda given: given)
    names = [name for name, _ in index.originals()]
    publisher._published.update(names[:10])
    progress = Progress(run_id="r", num_recordings=50, estimated_s=0.0)
    writer = DirectWriter(LocalStore(tmp_path / "out"), lambda: None)
    divided = Executors(publisher, index, progress, writer, 3, lambda: publisher)
    shares = [divided._share_of_index(number, publisher) for number in range(3)]
    of_each = [[name for name, _ in share.originals()] for share in shares]
    assert sorted(name for some in of_each for name in some) == sorted(names[10:])
    assert all(owner_of(name, 3) == n for n, some in enumerate(of_each) for name in some)
    assert [share.num_recordings for share in shares] == list(map(len, of_each))


def test_a_lost_executor_is_replaced_and_the_run_goes_on(local_ray, tmp_path):
    recordings = [recording(n, duration_s=0.5 + n % 7) for n in range(40)]
    killed: list[int] = []

    def kill_one(progress):
        if progress.num_transcripts >= 5 and not killed:
            killed.extend(executors()[:1])
            os.kill(killed[0], signal.SIGKILL)

    progress = run(divided(recordings, tmp_path), num_actors=2, tell=kill_one)
    rows = table(tmp_path / "out")
    said = {row["recording_id"]: [word["text"] for word in row["words"]] for row in rows}
    assert killed
    assert len(rows) == len(recordings)
    assert said == spoken_directly(recordings)
    # Also what was written for the lost one, which it did not live to count.
    assert (progress.state, progress.num_transcripts, progress.num_done) == ("finished", 40, 40)


@pytest.mark.slow
def test_executors_that_are_lost_again_and_again_end_the_run(local_ray, tmp_path):
    recordings = [recording(n) for n in range(40)]

    def kill_all(progress):
        for pid in executors():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(RunBrokenError, match=r"was lost 3 times: .*run the same command to resume"):
        run(divided(recordings, tmp_path), num_actors=2, tell=kill_all)
    assert run(divided(recordings, tmp_path), num_actors=2).num_done == 40
