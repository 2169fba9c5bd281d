"""A stalled run reports where and ends; it never hangs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightscribe.cluster import watchdog as watchdogs
from nightscribe.cluster.watchdog import STALLED_KEY, StalledError, Watchdog
from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config, open_store

ROOT = Path(__file__).parent.parent.parent
GIVE_UP_S = 500


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path), S3Config())


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    """When the process would have been ended, instead of ending it."""
    asked = []
    monkeypatch.setattr(watchdogs, "exit_later", asked.append)
    monkeypatch.setattr(watchdogs, "stacks_of_cluster", lambda timeout_s: "stacks of workers")
    return asked


def until_it_raises(watchdog):
    deadline_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline_s:
        watchdog.check("the same")
        time.sleep(0.05)


def test_a_run_that_moves_is_left_alone(store):
    with Watchdog(store, 0.3, str) as watchdog:
        for sign in range(30):
            time.sleep(0.03)
            watchdog.check(sign)
    assert list(store.entries()) == []


def test_a_stalled_run_reports_where_and_stops(store, ended):
    began_s = time.monotonic()
    with (
        pytest.raises(StalledError, match=r"nothing was finished for \d+ s; .*stalled.txt"),
        Watchdog(store, 0.5, lambda: "shard 7 was begun") as watchdog,
    ):
        until_it_raises(watchdog)
    assert time.monotonic() - began_s >= 0.5
    told = store.read(STALLED_KEY).decode()
    assert "shard 7 was begun" in told
    assert "stacks of workers" in told
    assert "until_it_raises" in told  # where this very driver stands
    assert ended[-1] == watchdogs.GRACE_S


def test_a_store_that_does_not_answer_leaves_the_stacks_in_the_log(store, monkeypatch, caplog):
    def unreachable(*_):
        raise StorageError("unreachable", "s3://here")

    monkeypatch.setattr(type(store), "write", unreachable)
    with (
        pytest.raises(StalledError, match="the log shows"),
        Watchdog(store, 0.3, lambda: "shard 7 was begun") as watchdog,
    ):
        until_it_raises(watchdog)
    assert "shard 7 was begun" in caplog.text


def test_a_run_that_moves_while_its_workers_are_asked_is_left_alone(store):
    def stacks():
        watchdog.check("moved")
        return "asked"

    with Watchdog(store, 0.3, stacks) as watchdog:
        time.sleep(0.5)
        watchdog.check("moved again")
    assert b"asked" in store.read(STALLED_KEY)


@pytest.fixture(scope="module")
def hung(tmp_path_factory):
    """How a run ends of which that part hangs, and its output; two of them hang side by side."""
    place = tmp_path_factory.mktemp("hung")
    running = {part: begin(part, place / part) for part in ("transcriber", "driver")}

    def end(part):
        if part not in running:
            running[part] = begin(part, place / part)
        _, said = running[part].communicate(timeout=GIVE_UP_S)
        return running[part].returncode, said, place / part / "out"

    yield end
    for one in running.values():
        one.kill()
        one.communicate()


def begin(part, place):
    place.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.hanging", part, str(place / "out")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.ray
@pytest.mark.timeout(GIVE_UP_S + 60)
@pytest.mark.parametrize(
    "part",
    [
        "transcriber",
        pytest.param("decoder", marks=pytest.mark.slow),
        pytest.param("publisher", marks=pytest.mark.slow),
    ],
)
def test_a_run_with_a_hanging_worker_ends_with_its_stack(hung, part):
    code, said, output = hung(part)
    assert code == 1, said
    told = (output / STALLED_KEY).read_text()
    assert f"hang_in_the_{part}" in told
    assert "begun and not ended" in told
    status = json.loads((output / "_run/status.json").read_text())
    assert status["state"] == "failed"
    assert "nothing was finished" in status["detail"]


@pytest.mark.ray
@pytest.mark.timeout(GIVE_UP_S + 60)
def test_a_driver_that_hangs_is_ended_with_its_stack(hung):
    code, said, output = hung("driver")
    assert code == 1, said
    for told in (said, (output / STALLED_KEY).read_text()):
        assert "hang_in_the_driver" in told
