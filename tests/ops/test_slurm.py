"""The Slurm script with a Slurm that is played: what it starts is real."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import pyarrow.parquet as pq
import pytest

from tests.jobs.test_submit import free_port

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent.parent
START_S = 300
PLAYED = {
    "scontrol": 'echo "$@" >>"$CALLS"; if [ "$1" = show ]; then echo 127.0.0.1; fi',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@" $HERE',
    "ray": f'exec {sys.executable} -m ray.scripts.scripts "$@"',
    "nightscribe": f'exec {sys.executable} -m nightscribe "$@"',
}


@pytest.fixture
def job(tmp_path):
    """Begins a job on one node; everything that it started ends with the test."""
    (tmp_path / "bin").mkdir()
    for name, text in PLAYED.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    played = {
        "NIGHTSCRIBE_VENV": str(tmp_path),
        "CALLS": str(tmp_path / "calls"),
        "HERE": "--include-dashboard=false --node-ip-address=127.0.0.1",
        "RAY_PORT": str(free_port()),
        "RAY_TMPDIR": mkdtemp(prefix="ns-"),  # short: Ray names sockets after it
        "SLURM_JOB_NODELIST": "one",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_JOB_ID": "7",
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | played
    begun = []

    def begin(*words):
        command = ["bash", str(ROOT / "ops/slurm/nightscribe.sbatch"), *words]
        with (tmp_path / "log").open("w") as log:
            running = subprocess.Popen(
                command, env=environment, cwd=ROOT, stderr=log, stdout=log, start_new_session=True
            )
        begun.append(running)
        return running

    yield begin
    for running in begun:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


def test_a_job_transcribes_on_a_ray_that_asks_for_its_token(job, tmp_path):
    words = [f"input={ROOT}/samples/alice.opus", f"output={tmp_path}/out", "model=tiny"]
    running = job(*words, "quiet=true")
    assert running.wait(START_S) == 0, (tmp_path / "log").read_text()
    (row,) = pq.read_table(tmp_path / "out/transcripts").to_pylist()
    assert row["text"]
    assert "requeue" not in (tmp_path / "calls").read_text()


def test_a_job_that_is_preempted_drains_and_queues_again(job, tmp_path):
    words = [f"input={ROOT}/samples/ten-minutes.opus", f"output={tmp_path}/out", "model=tiny"]
    running = job(*words, "quiet=true", "shard.max_s=15", "shard.search_s=5")
    deadline_s = time.monotonic() + START_S
    while not list((tmp_path / "out/_run/parts").glob("*")):
        assert running.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait(START_S) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "requeue 7"
    status = json.loads((tmp_path / "out/_run/status.json").read_text())
    assert status["state"] in ("stopped", "finished")
