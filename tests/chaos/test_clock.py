"""A driver whose clock is set while it works: an object store refuses what a wrong clock signed."""

import random
import threading
import time
from datetime import timedelta

import pytest
from botocore import auth

from nightscribe.storage.errors import StorageError
from nightscribe.storage.lease import LeaseConfig
from nightscribe.storage.locations import S3Config, open_store
from tests import made_up_run
from tests.chaos.tables import tables

DAY_S = 86_400.0


class Clock:
    """The machine's, wrong by what `wrong_by_s` says each time that a request is signed."""

    def __init__(self):
        self.wrong_by_s, self.num_signed = lambda num_signed: 0.0, 0
        self._time, self._date = time.time, auth.get_current_datetime
        # So that no clock jumps while a request is under way, which nobody could tell from a lie.
        self._thread = threading.local()

    def time(self):
        return self._time() + getattr(self._thread, "wrong_by_s", 0.0)

    def date(self, *words, **options):
        self._thread.wrong_by_s = self.wrong_by_s(self.num_signed)
        self.num_signed += 1
        return self._date(*words, **options) + timedelta(seconds=self._thread.wrong_by_s)


@pytest.fixture
def clock(monkeypatch, undisturbed):
    clock = Clock()
    monkeypatch.setattr(auth, "get_current_datetime", clock.date)
    monkeypatch.setattr(time, "time", clock.time)
    yield clock
    monkeypatch.undo()


@pytest.fixture
def undisturbed(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    made_up_run.run(store, seed=0)
    return tables(store)


def test_a_clock_that_jumps_there_and_back_changes_nothing(clock, undisturbed, s3_bucket):
    store, draw = open_store(s3_bucket, S3Config()), random.Random(4)
    jumps = [0.0, 0.0, 0.0, 0.0, 600.0, -600.0, DAY_S, -DAY_S]
    clock.wrong_by_s = lambda num_signed: draw.choice(jumps)
    made_up_run.run(store, seed=1)
    assert clock.num_signed > 100
    clock.wrong_by_s = lambda num_signed: 0.0
    assert tables(store) == undisturbed


@pytest.mark.parametrize("wrong_by_s", [-DAY_S, DAY_S])
def test_a_clock_that_stays_wrong_is_named_and_once_set_right_the_run_goes_on(
    clock, undisturbed, s3_bucket, wrong_by_s, monkeypatch
):
    monkeypatch.setattr(made_up_run, "LEASE", LeaseConfig(life_s=4.0))
    store = open_store(s3_bucket, S3Config())
    clock.wrong_by_s = lambda num_signed: wrong_by_s if num_signed > 60 else 0.0
    with pytest.raises(StorageError, match="the clock of this machine is wrong"):
        made_up_run.run(store, seed=1)
    clock.wrong_by_s = lambda num_signed: 0.0
    made_up_run.run(store, seed=2)
    assert tables(store) == undisturbed
