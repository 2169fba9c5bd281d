"""Signals to every process of the group, as terminals and supervisors send them.

One SIGINT or SIGTERM drains, two end; neither reaches the processes of Ray.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.test_kills import ROOT, finish, table, wait_for_parts

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

INTERRUPTED = 130
# Many small shards and few of them at a time, so that much is left when the signal comes.
ASKED = [
    *("input=samples/ten-minutes.opus", "model=tiny", "engine.num_slots=1", "quiet=true"),
    *("shard.max_s=25", "lease.life_s=3", "cluster.object_store_gib=0.1"),
    *("intervals.commit_s=0.5", "cluster.num_audio_workers=1", "cluster.in_process=never"),
]


def begin(output: Path) -> subprocess.Popen:
    with output.with_name("stderr.txt").open("w") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "nightscribe", "transcribe", f"output={output}", *ASKED],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=told,
            start_new_session=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        )


def status_of(output: Path) -> dict:
    return json.loads((output / "_run/status.json").read_text())


def num_parts(output: Path) -> int:
    return len(list((output / "_run/parts").rglob("*.parquet")))


def interrupted(output: Path, times: int, number: int = signal.SIGINT) -> tuple[int, int]:
    """The exit code and the parts there were at the first signal."""
    running = begin(output)
    try:
        wait_for_parts(str(output), running)
        before = num_parts(output)
        for _ in range(times):
            os.killpg(running.pid, number)
            time.sleep(1)
    finally:
        code = finish(running)
    return code, before


@pytest.fixture(scope="module")
def drained(tmp_path_factory) -> tuple[Path, tuple[int, int]]:
    output = tmp_path_factory.mktemp("drained") / "out"
    return output, interrupted(output, 1, signal.SIGTERM)


def test_one_signal_finishes_what_was_begun_and_no_more(drained):
    check_drained(*drained)


@pytest.mark.slow
def test_one_ctrl_c_finishes_what_was_begun_and_no_more(tmp_path):
    check_drained(tmp_path / "out", interrupted(tmp_path / "out", 1))


def check_drained(output, ended):
    code, num_parts_before = ended
    status = status_of(output)
    assert (code, status["state"]) == (INTERRUPTED, "stopped")
    assert status["detail"] == "1 recordings are left"
    assert status["num_retries"] == 0
    assert num_parts(output) > num_parts_before
    assert not table(str(output))


@pytest.mark.slow
def test_two_end_at_once_and_the_same_command_goes_on(drained, tmp_path):
    output, _ = drained
    killed = tmp_path / "out"
    code, _ = interrupted(killed, 2)
    status = status_of(killed)
    assert (code, status["state"]) == (INTERRUPTED, "stopped")
    assert "before what had begun was finished" in status["detail"]
    told = (tmp_path / "stderr.txt").read_text()
    assert "recordings in progress are not finished; run the same command to resume" in told
    assert "Traceback" not in told
    tables = []
    for stopped in (output, killed):
        parts = {path.name for path in (stopped / "_run/parts").rglob("*.parquet")}
        assert finish(begin(stopped)) == 0
        assert parts <= {path.name for path in (stopped / "_run/parts").rglob("*.parquet")}
        tables.append(table(str(stopped)))
    assert tables[0] == tables[1]
    assert len(tables[0]) == 1


@pytest.mark.slow
def test_a_ray_that_is_gone_ends_the_run_in_one_sentence(tmp_path):
    running = begin(tmp_path / "out")
    try:
        wait_for_parts(str(tmp_path / "out"), running)
        listed = ["pgrep", "--parent", str(running.pid), "--list-name"]
        children = subprocess.run(listed, capture_output=True, text=True).stdout.splitlines()
        (store,) = [int(line.split()[0]) for line in children if "gcs_server" in line]
        os.kill(store, signal.SIGKILL)
        assert running.wait(60) == 2
    finally:
        finish(running)
    told = (tmp_path / "stderr.txt").read_text()
    assert "nightscribe: the Ray of this run has ended; run the same command to resume\n" in told
    assert "Traceback" not in told
    assert status_of(tmp_path / "out")["state"] == "failed"
