"""`nightscribe submit` on a cluster that `ray start --head` started on this machine."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest
from ray.job_submission import JobStatus
from ray.util import get_node_ip_address

from nightscribe.cluster import ray_jobs as jobs

ROOT = Path(__file__).parent.parent.parent
START_S = 120
ASKED = ("model=tiny", "engine.device=cpu", f"submit.python={sys.executable}", "lease.life_s=5")


class Losing:
    """A client of a head that answers every other time."""

    def __init__(self, status: JobStatus, code: int) -> None:
        self._info = SimpleNamespace(status=status, driver_exit_code=code)
        self._num_asked = 0

    def get_job_info(self, job_id: str):
        self._num_asked += 1
        if self._num_asked % 2:
            raise ConnectionError("refused")
        return self._info

    def submit_job(self, **given):
        self._num_asked += 1
        if self._num_asked < 3:
            raise RuntimeError("status code 500: No available agent, please try again later..")
        return "night"

    async def tail_job_logs(self, job_id: str):
        yield "first line\n"
        raise RuntimeError("WebSocket connection closed unexpectedly")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(JobStatus.SUCCEEDED, 0, 0), (JobStatus.FAILED, 7, 7), (JobStatus.STOPPED, None, 1)],
)
def test_a_lost_connection_is_not_the_end_of_a_job(monkeypatch, status, code, expected):
    monkeypatch.setattr(jobs, "JobSubmissionClient", lambda address: Losing(status, code))
    monkeypatch.setattr(jobs, "PAUSE_S", 0.0)
    told, cluster = [], jobs.Jobs("http://head:8265")
    follow = cluster.follow("job", told.append)
    with pytest.raises(StopIteration):
        follow.send(None)
    assert told == ["first line\n"]
    assert cluster.exit_code("job") == expected


def test_a_head_that_is_still_starting_is_asked_again(monkeypatch):
    monkeypatch.setattr(jobs, "JobSubmissionClient", lambda _: Losing(JobStatus.PENDING, 0))
    cluster = jobs.Jobs("http://head:8265")
    assert cluster.submit(jobs.RayJob(command="x", folder=None)) == "night"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def head():
    """The dashboard's address and the folder of a cluster of its own.

    It is started as users do after a first local run, which has left a token: with its defaults.
    """
    folder, port = Path(tempfile.mkdtemp(prefix="head-")), free_port()
    (folder / ".ray").mkdir()
    (folder / ".ray/auth_token").write_text("0123456789abcdef" * 4)
    ray = str(Path(sys.executable).with_name("ray"))
    # The agent takes jobs at a port of its own; another Ray of this machine may have the usual one.
    kinds = "port", "dashboard-agent-listen-port", "metrics-export-port", "ray-client-server-port"
    ports = f"--dashboard-port={port}", *(f"--{kind}={free_port()}" for kind in kinds)
    (folder / "port").write_text(ports[1].rpartition("=")[2])
    small = "--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats"
    started = subprocess.Popen(
        [ray, "start", "--head", "--block", f"--temp-dir={folder}", *ports, *small],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=as_user(folder),
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/api/jobs/", started)
        yield f"http://127.0.0.1:{port}", folder
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def as_user(home: Path | None) -> dict[str, str]:
    """The environment of a user who has set nothing of Ray."""
    unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return unset | ({"HOME": str(home)} if home else {})


def wait_for(address: str, head: subprocess.Popen) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        assert head.poll() is None, "ray start has ended"
        try:
            urlopen(address, timeout=5).close()
            return
        except HTTPError:  # it wants a token
            return
        except OSError:
            assert time.monotonic() < deadline_s
            time.sleep(0.5)


def submit(head, *words: str) -> subprocess.CompletedProcess:
    address, home = head
    return subprocess.run(
        [sys.executable, "-m", "nightscribe", "submit", f"ray.address={address}", *words],
        cwd=ROOT,
        env=as_user(home),
        capture_output=True,
        text=True,
    )


def archive(folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(ROOT / "samples/alice.opus", folder)
    (folder / "page.mp3").write_text("<html>Sign in</html>" * 99)
    return folder


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_submitted_run_is_followed_to_its_end_and_uploads_no_data(head, tmp_path):
    output = tmp_path / "out"
    words = (f"input={archive(tmp_path / 'in')}", f"output={output}", *ASKED)
    done = submit(head, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2" in done.stdout
    (row,) = pq.read_table(output / "transcripts").to_pylist()
    assert row["uri"].endswith("alice.opus")
    carried = head[1] / "session_latest/runtime_resources/working_dir_files"
    (package,) = [path for path in carried.iterdir() if path.is_dir()]
    assert [path.name for path in package.iterdir()] == ["nightscribe"]
    assert submit(head, *words, "failures.max=0").returncode == 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_detached_run_can_be_stopped(head, tmp_path):
    output = tmp_path / "out"
    asked = (f"input={ROOT / 'samples/ten-minutes.opus'}", f"output={output}", *ASKED)
    done = submit(head, *asked, "submit.wait=false", "submit.job_id=night")
    assert done.returncode == 0, done.stderr
    assert "nightscribe submit stop=night" in done.stderr
    again = submit(head, *asked, "submit.wait=false", "submit.job_id=night")
    assert again.returncode == 2
    assert "refused the job" in again.stderr
    status = output / "_run/status.json"
    deadline_s = time.monotonic() + START_S
    while not status.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.5)
    stopped = submit(head, "stop=night")
    assert (stopped.returncode, "night is stopping" in stopped.stderr) == (0, True)
    while "has already ended" not in submit(head, "stop=night").stderr:
        assert time.monotonic() < deadline_s + START_S
        time.sleep(0.5)
    assert json.loads(status.read_text())["state"] != "finished"


def test_an_unreachable_cluster_is_one_sentence():
    words = "input=/a", "output=s3://b/c", "model=tiny"
    done = submit((f"http://127.0.0.1:{free_port()}", None), *words)
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [("input=calls", "output=/b"), ("input=s3://a/b", "output=out")])
def test_a_path_that_means_nothing_on_the_cluster_is_refused(words):
    done = submit(("http://127.0.0.1:9", None), *words, "model=tiny")
    assert done.returncode == 2
    assert "would be looked for on the cluster" in done.stderr


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_default_cluster_of_two_cpus_can_be_joined(head, tmp_path):
    _, home = head
    words = (f"input={archive(tmp_path / 'in')}", f"output={tmp_path / 'out'}", *ASKED[:2])
    port = (home / "port").read_text()
    joined = subprocess.run(
        [
            sys.executable,
            "-m",
            "nightscribe",
            "transcribe",
            f"ray.address={get_node_ip_address()}:{port}",
            *words,
        ],
        env=as_user(home),
        capture_output=True,
        text=True,
    )
    assert joined.returncode == 0, joined.stderr
    assert "2 of 2" in joined.stderr
