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


def test_a_holder_whose_process_id_another_process_has_now_is_followed_at_once(store, monkeypatch):
    before_us = leases.this_process() | {"started": "1"}  # our id, and a process that is gone
    with monkeypatch.context() as patched:
        patched.setattr(leases, "this_process", lambda: before_us)
        take(store, LeaseConfig(life_s=20.0))
    started_s = time.monotonic()
    take(store, LONG).check()
    assert time.monotonic() - started_s < 10


def test_a_holder_that_was_followed_writes_nothing_more(store):
    with take(store, LeaseConfig(life_s=0.01)) as slept:
        slept._ended.set()  # as if its machine had been asleep
        time.sleep(1.1)
        follower = take(store, LONG)
        held = store.read(leases._key(2))
        slept.renew()
    assert [entry.key for entry in store.entries(leases.FOLDER)] == [leases._key(2)]
    assert store.read(leases._key(2)) == held
    follower.check()


class Clock:
    """The time of a machine, which passes when a test says so."""

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        monkeypatch.setattr(leases, "_boot_clock_s", lambda: self.now_s)

    def makes_slow(self, monkeypatch, lease, name, lasting_s):
        """Let a request of the lease's store take effect at once and last this long."""
        request = getattr(lease._store, name)

        def slow(*given):
            answer = request(*given)
            self.now_s += lasting_s
            return answer

        monkeypatch.setattr(lease._store, name, slow)


def test_the_last_quarter_of_its_life_is_left_for_what_a_holder_has_begun(store, monkeypatch):
    clock = Clock(monkeypatch)
    lease = take(store, LONG)
    clock.now_s += 0.74 * LONG.life_s
    lease.check()
    clock.now_s += 0.02 * LONG.life_s
    with pytest.raises(LeaseLostError, match="could not renew its lease for 46 s"):
        lease.check()
    lease.renew()
    lease.check()


def test_a_life_begins_when_its_claim_is_sent_and_not_when_that_is_answered(store, monkeypatch):
    clock, lease = Clock(monkeypatch), leases.Lease(store, 1, 60.0)
    clock.makes_slow(monkeypatch, lease, "write_if_absent", 50.0)
    assert lease.claim()
    with pytest.raises(LeaseLostError):
        lease.check()


def test_a_life_begins_again_when_a_renewal_is_sent_and_not_when_it_is_answered(store, monkeypatch):
    clock, lease = Clock(monkeypatch), take(store, LONG)
    clock.makes_slow(monkeypatch, lease, "write", 50.0)
    lease.renew()
    with pytest.raises(LeaseLostError):
        lease.check()


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
