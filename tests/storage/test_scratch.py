"""Recordings are fetched as they were planned, into a space that never overflows."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.scratch import GIB, ScratchConfig, fetched
from nightscribe.storage.sources import recordings

S3 = S3Config()
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def scratch(tmp_path):
    return ScratchConfig(folder=str(tmp_path / "scratch"), wait_s=0.3)


def stored(folder, data, name="a.mp3"):
    open_store(folder, S3).write(name, data)
    (recording,) = recordings(f"{folder}/{name}", S3)
    return recording


def left_in(scratch):
    return sorted(path.name for path in Path(scratch.folder).rglob("*") if path.name != "lock")


def test_a_recording_is_there_while_it_is_needed(folder, scratch):
    recording = stored(folder, b"bytes" * 100)
    with fetched(recording, S3, scratch) as path:
        assert path.read_bytes() == b"bytes" * 100
        assert path.suffix == ".mp3"
    assert left_in(scratch) == []


def test_no_lock_stays_open(s3_bucket, scratch):
    with fetched(stored(s3_bucket, b"bytes"), S3, scratch):
        pass
    opened = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]
    assert not [path for path in opened if path.startswith(scratch.folder)]


def test_the_last_byte_of_a_disk_may_be_used(s3_bucket, scratch, monkeypatch):
    recording = stored(s3_bucket, b"x" * 600)
    for free, fits in ((600, True), (599, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        with (
            nullcontext() if fits else pytest.raises(StorageError),
            fetched(recording, S3, scratch),
        ):
            pass


def test_a_recording_on_disk_is_not_copied(tmp_path, scratch):
    recording = stored(str(tmp_path), b"bytes")
    with fetched(recording, S3, scratch) as path:
        assert path == tmp_path / "a.mp3"
    assert path.exists()
    assert left_in(scratch) == []


def test_another_version_than_the_planned_one_is_not_read(folder, scratch):
    recording = stored(folder, b"planned")
    open_store(folder, S3).write("a.mp3", b"another")
    with pytest.raises(StorageError) as error, fetched(recording, S3, scratch):
        pass
    assert error.value.reason == "changed"
    assert left_in(scratch) == []


def test_a_missing_recording_is_reported_as_missing(folder, scratch):
    recording = stored(folder, b"planned")
    open_store(folder, S3).delete("a.mp3")
    with pytest.raises(StorageError) as error, fetched(recording, S3, scratch):
        pass
    assert error.value.reason == "not_found"


def test_an_error_while_decoding_leaves_nothing(s3_bucket, scratch):
    recording = stored(s3_bucket, b"bytes")
    with pytest.raises(RuntimeError), fetched(recording, S3, scratch):
        raise RuntimeError
    assert left_in(scratch) == []


def test_who_does_not_fit_waits_until_another_is_done(s3_bucket, scratch):
    recording = stored(s3_bucket, b"x" * 600)
    scratch = replace(scratch, max_gib=1000 / GIB, wait_s=20)
    held, heard = threading.Event(), []

    def second():
        held.wait()
        with fetched(recording, S3, scratch) as path:
            heard.append(path.read_bytes())

    waiting = threading.Thread(target=second)
    waiting.start()
    with fetched(recording, S3, scratch):
        held.set()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(10)
    assert heard == [b"x" * 600]


def test_waiting_for_space_ends(s3_bucket, scratch):
    recording = stored(s3_bucket, b"x" * 600)
    scratch = replace(scratch, max_gib=1000 / GIB)
    with (
        fetched(recording, S3, scratch),
        pytest.raises(StorageError, match="none became free"),
        fetched(recording, S3, scratch),
    ):
        pass


def test_what_never_fits_is_refused_at_once(s3_bucket, scratch):
    recording = stored(s3_bucket, b"x" * 600)
    scratch = replace(scratch, max_gib=500 / GIB, wait_s=3600)
    with (
        pytest.raises(StorageError, match=r"scratch\.max_gib is") as error,
        fetched(recording, S3, scratch),
    ):
        pass
    assert error.value.reason == "no_space"


def test_the_space_of_a_killed_process_is_free_again(s3_bucket, scratch):
    recording = stored(s3_bucket, b"x" * 600)
    scratch = replace(scratch, max_gib=1000 / GIB, wait_s=20)
    script = f"""
import time
from nightscribe.records import Recording
from nightscribe.storage.locations import S3Config
from nightscribe.storage.scratch import ScratchConfig, fetched
with fetched({recording!r}, S3Config(), {scratch!r}) as path:
    print(path, flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    with process, process.stdout:
        path = Path(process.stdout.readline().decode().strip())
        assert path.exists()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert path.exists()
        with fetched(recording, S3, scratch):
            assert not path.exists()


def test_scratch_has_some_space():
    with pytest.raises(ValueError, match="max_gib must be positive, got 0"):
        ScratchConfig(max_gib=0)


def test_every_user_of_a_machine_has_a_folder_of_their_own(monkeypatch):
    mine = ScratchConfig().folder
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert ScratchConfig().folder != mine


def test_a_folder_that_cannot_be_made_is_named(s3_bucket, tmp_path):
    (tmp_path / "file").write_text("no folder")
    scratch = ScratchConfig(folder=f"{tmp_path}/file/scratch")
    recording = stored(s3_bucket, b"x")
    with (
        pytest.raises(StorageError, match="file/scratch: this is not"),
        fetched(recording, S3, scratch),
    ):
        pass
