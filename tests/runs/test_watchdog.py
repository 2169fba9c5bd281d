"""A stalled run reports where and ends; it never hangs."""

import time
from pathlib import Path

import pytest

from nightscribe.runs import watchdog as watchdogs
from nightscribe.runs.watchdog import STALLED_KEY, StalledError, Watchdog
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
    return asked


def watchdog_of(store, timeout_s, describe):
    return Watchdog(store, timeout_s, describe, lambda answer_s: "stacks of workers")


def until_it_raises(watchdog):
    deadline_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline_s:
        watchdog.check("the same")
        time.sleep(0.05)


def test_a_run_that_moves_is_left_alone(store):
    with watchdog_of(store, 0.3, str) as watchdog:
        for sign in range(30):
            time.sleep(0.03)
            watchdog.check(sign)
    assert list(store.entries()) == []


def test_a_stalled_run_reports_where_and_stops(store, ended):
    began_s = time.monotonic()
    with (
        pytest.raises(StalledError, match=r"nothing was finished for \d+ s; .*stalled.txt"),
        watchdog_of(store, 0.5, lambda: "shard 7 was begun") as watchdog,
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
        watchdog_of(store, 0.3, lambda: "shard 7 was begun") as watchdog,
    ):
        until_it_raises(watchdog)
    assert "shard 7 was begun" in caplog.text


def test_a_run_that_moves_while_its_workers_are_asked_is_left_alone(store):
    def stacks():
        watchdog.check("moved")
        return "asked"

    with watchdog_of(store, 0.3, stacks) as watchdog:
        time.sleep(0.5)
        watchdog.check("moved again")
    assert b"asked" in store.read(STALLED_KEY)
