"""Two runs never write to one output at once, and a dead one does not block the next for long."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from nightscribe.storage import lease as leases
from nightscribe.storage.errors import StorageError
from nightscribe.storage.lease import LeaseConfig, LeaseHeldError, LeaseLostError, take
from nightscribe.storage.local import LocalStore
from nightscribe.storage.locations import S3Config, open_store

ROOT = Path(__file__).parent.parent.parent
SHORT = LeaseConfig(life_s=2.0)
LONG = LeaseConfig(life_s=60.0)


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


@pytest.fixture(autouse=True)
def _frequent_renewals(monkeypatch):
    monkeypatch.setattr(leases, "MAX_INTERVAL_S", 0.5)


def test_a_second_run_is_refused_while_the_first_lives(store):
    with take(store, LONG), pytest.raises(LeaseHeldError, match=r"process \d+ on .* is writing"):
        take(store, LONG)


def test_the_next_run_starts_at_once_when_the_first_ends(store):
    with take(store, LONG):
        pass
    with take(store, LONG) as second:
        second.check()


def test_a_living_holder_keeps_its_lease_beyond_its_life(store):
    with take(store, SHORT) as first:
        deadline_s = time.monotonic() + 2 * SHORT.life_s
        while time.monotonic() < deadline_s:
            with pytest.raises(LeaseHeldError):
                take(store, SHORT)
            first.check()
            time.sleep(0.2)


def test_a_silent_holder_is_followed_when_its_life_has_passed_and_not_before(store):
    take(store, SHORT)  # never entered: nobody renews it
    started_s = time.monotonic()
    take(store, SHORT)
    assert SHORT.life_s <= time.monotonic() - started_s < SHORT.life_s + 4


def test_a_holder_killed_on_this_machine_is_followed_at_once(store, tmp_path):
    script = (
        "import os, signal; from nightscribe.storage.lease import *; "
        "from nightscribe.storage.locations import *; "
        f"take(open_store({store.uri('')!r}, S3Config()), LeaseConfig(life_s=60.0)).__enter__(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    started_s = time.monotonic()
    with take(store, LONG) as lease:
        lease.check()
    assert time.monotonic() - started_s < 10


def test_a_holder_on_another_machine_is_not_taken_for_dead_by_its_pid(store, monkeypatch):
    there = leases.this_process() | {"machine": "another", "pid": 2**22 + 1}
    with monkeypatch.context() as patched:
        patched.setattr(leases, "this_process", lambda: there)
        other = take(store, LONG)
    with other, pytest.raises(LeaseHeldError, match="is writing here"):
        take(store, LONG)


def test_of_many_that_follow_a_dead_one_only_one_gets_the_lease(store):
    take(store, LeaseConfig(life_s=0.01))
    time.sleep(1.1)
    start = threading.Barrier(6)

    with ThreadPoolExecutor(6) as threads, ExitStack() as held:

        def claim(_):
            start.wait()
            try:
                return held.enter_context(take(store, LONG))
            except LeaseHeldError:
                return None

        assert sum(lease is not None for lease in threads.map(claim, range(6))) == 1


def test_a_holder_that_was_followed_learns_it_and_leaves_its_follower_alone(store):
    with take(store, LeaseConfig(life_s=0.01)) as slept:
        slept._ended.set()  # as if its machine had been asleep
        time.sleep(1.1)
        with take(store, LONG) as follower:
            with pytest.raises(LeaseLostError, match="another run may write now"):
                slept.check()
            slept.renew()
            follower.renew()
            follower.check()


def test_a_machine_that_was_frozen_with_its_clock_learns_from_the_store(store):
    frozen = take(store, LeaseConfig(life_s=0.01))
    frozen._life_s = 3600.0  # as if no time had passed
    frozen.check()
    with take(store, LONG), pytest.raises(LeaseLostError):
        frozen.check()


def test_a_claim_on_a_number_long_gone_by_is_withdrawn(store):
    take(store, LeaseConfig(life_s=0.01))
    late = leases.Lease(store, 2, 3600.0)  # looked, then slept before it claimed
    time.sleep(1.1)
    with take(store, LONG):
        pass
    with take(store, LONG) as holder:  # number 3; number 2 is removed
        assert not late.claim()
        holder.renew()
        holder.check()


def test_a_holder_that_cannot_renew_stops_before_another_may_start(store, monkeypatch):
    with take(store, SHORT) as lease:
        lease.check()

        def unreachable(*_):
            raise StorageError("unreachable", "s3://here")

        monkeypatch.setattr(lease._store, "write", unreachable)
        time.sleep(leases.SAFE_SHARE * SHORT.life_s + SHORT.life_s / leases.RENEWALS_PER_LIFE)
        with pytest.raises(LeaseLostError):
            lease.check()
        monkeypatch.undo()


@pytest.mark.parametrize("wrong_by_s", [-86_400, 86_400])
def test_a_clock_that_jumps_by_a_day_changes_nothing(store, monkeypatch, wrong_by_s):
    right = time.time
    with take(store, LONG) as lease:
        monkeypatch.setattr(time, "time", lambda: right() + wrong_by_s)
        if isinstance(store, LocalStore):
            for path in (store.folder / leases.FOLDER).iterdir():
                os.utime(path, (time.time(), time.time()))
        with pytest.raises(LeaseHeldError):
            take(store, LONG)
        lease.renew()
        lease.check()


def test_what_else_lies_beside_the_leases_is_none(store):
    for name in (".nfs000000000a", "00000009 (copy).json", "notes.txt"):
        store.write(f"{leases.FOLDER}/{name}", b"{}")
    with take(store, LONG) as lease:
        lease.check()
    with take(store, LONG):
        pass


def test_a_lease_lasts_some_time():
    with pytest.raises(ValueError, match="life_s must be positive, got 0"):
        LeaseConfig(life_s=0)
