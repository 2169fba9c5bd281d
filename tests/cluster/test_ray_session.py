"""Joining and starting a Ray, as far as it goes without one."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightscribe.cluster.ray_session import (
    INTERNAL_SETTINGS,
    START_ATTEMPTS,
    ClusterUnreachableError,
    connected,
    cpus_here,
)
from nightscribe.runs.config import ClusterConfig, RayConfig

OPS = Path(__file__).parent.parent.parent / "ops"


@pytest.mark.parametrize(
    ("quota", "most"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 10**6), ("odd", 10**6)],
)
def test_a_container_uses_no_more_cpus_than_it_may(tmp_path, quota, most):
    (tmp_path / "cpu.max").write_text(quota)
    assert cpus_here(tmp_path / "cpu.max") == min(most, len(os.sched_getaffinity(0)))
    assert cpus_here(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_whatever_keeps_ray_from_starting_is_one_sentence(monkeypatch):
    attempts = []

    def overloaded(**given):
        attempts.append(given)
        raise Exception("The current node timed out during startup.\nSomething is overloaded.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("nightscribe.cluster.ray_session.ray.init", overloaded)
    with (
        pytest.raises(ClusterUnreachableError, match=r"^no Ray on this machine: .*overloaded\.$"),
        connected(RayConfig(), ClusterConfig()),
    ):
        raise AssertionError
    assert len(attempts) == START_ATTEMPTS


@pytest.mark.parametrize(("stored", "is_sent"), [("secret", True), (None, False)])
def test_a_token_that_this_user_has_is_sent(tmp_path, stored, is_sent):
    """In a process of its own: Ray keeps what it has read."""
    if stored:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").write_text(stored)
    code = (
        "from nightscribe.cluster.ray_session import use_token; use_token(); "
        "from ray._raylet import AuthenticationMode, get_authentication_mode as mode; "
        "print(mode() == AuthenticationMode.TOKEN)"
    )
    unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    asked = subprocess.run(
        [sys.executable, "-c", code],
        env=unset | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert asked.stdout == f"{is_sent}\n", asked.stderr


def test_a_cluster_that_may_want_a_token_is_reported_with_how_to_give_it(monkeypatch, tmp_path):
    def refusing(**given):
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("nightscribe.cluster.ray_session.ray.init", refusing)
    with (
        pytest.raises(ClusterUnreachableError, match=r"no Ray at head:6379.*RAY_AUTH_TOKEN_PATH"),
        connected(RayConfig(address="head:6379"), ClusterConfig()),
    ):
        raise AssertionError


def test_a_ray_started_here_keeps_its_workers_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in INTERNAL_SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is as it was afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_task_events_max_num_task_in_gcs", "7")
    seen = {}
    monkeypatch.setattr(
        "nightscribe.cluster.ray_session.ray.init", lambda **given: seen.update(os.environ)
    )
    with connected(RayConfig(), ClusterConfig()):
        kept = {name: seen[name] for name in INTERNAL_SETTINGS}
    assert kept == INTERNAL_SETTINGS | {"RAY_task_events_max_num_task_in_gcs": "7"}


# The others run the image.
@pytest.mark.parametrize(
    "name", ["Dockerfile", "cluster/machines.yaml", "slurm/nightscribe.sbatch"]
)
def test_a_ray_of_any_kind_keeps_idle_workers(name):
    setting = "RAY_idle_worker_killing_time_threshold_ms"
    assert f"{setting}={INTERNAL_SETTINGS[setting]}" in (OPS / name).read_text()


def test_ray_stays_quiet_when_its_data_library_is_imported_later():
    script = (
        "import logging; from nightscribe.cluster import ray_session; ray_session._quiet_logs();"
        "import ray.data; print(logging.getLogger('ray.data').level)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert int(ended.stdout) >= logging.WARNING, ended.stderr


BREAKING_OFF = """
import atexit, os, sys
from nightscribe.cluster import ray_session
from nightscribe.runs.config import ClusterConfig, RayConfig
from nightscribe.jobs.shell.command import run_job
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.status import StatusConfig
from nightscribe.cluster.execution import RunBrokenError

def as_rays_client_does(): os._exit(1)

def broken_off(config):
    with ray_session.connected(RayConfig(address=sys.argv[2] or None), ClusterConfig()):
        sys.stdout.write("said before")
        raise eval(sys.argv[1])

ray_session.ray.init = lambda **given: None
ray_session.ray.shutdown = as_rays_client_does
atexit.register(as_rays_client_does)
run_job("status", lambda: Job(name="status", config=StatusConfig, run=broken_off), ["run=x"])
"""


@pytest.mark.parametrize(("raised", "code"), [("KeyboardInterrupt", 130), ("RunBrokenError()", 2)])
def test_a_run_that_breaks_off_ends_with_its_own_code_although_ray_is_still_used(raised, code):
    unset = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    words = [sys.executable, "-c", BREAKING_OFF, raised, ""]
    ended = subprocess.run(words, capture_output=True, text=True, env=unset)
    assert (ended.returncode, ended.stdout) == (code, "said before"), ended.stderr


def test_a_cluster_of_others_is_left_in_order():
    words = [sys.executable, "-c", BREAKING_OFF, "KeyboardInterrupt", "head:6379"]
    assert subprocess.run(words).returncode == 1  # what stands for ray.shutdown was called
