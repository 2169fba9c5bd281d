"""Joining and starting a Ray, as far as it goes without one."""

import os
from pathlib import Path

import pytest

from nightscribe.cluster.config import ClusterConfig, RayConfig
from nightscribe.cluster.ray_session import (
    INTERNAL_SETTINGS,
    START_ATTEMPTS,
    ClusterUnreachableError,
    connected,
    cpus_here,
)

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
