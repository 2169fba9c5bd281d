"""The laws of a store, over disk and over a real S3 server."""

import errno
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nightscribe.storage.errors import StorageError, one_sentence
from nightscribe.storage.local import LocalStore
from nightscribe.storage.locations import S3Config, open_file, open_store
from nightscribe.storage.s3 import PART_BYTES

ODD_KEYS = ["a b.mp3", "a+b.mp3", "a%20b.mp3", "\u00e6r/\u00f6l.mp3", "a'\"&?#.mp3", "x=1/y.mp3"]


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


def test_what_is_written_is_read_and_listed(store):
    store.write("a/b.bin", b"hello")
    assert store.read("a/b.bin") == b"hello"
    (entry,) = store.entries()
    assert (entry.key, entry.size_bytes) == ("a/b.bin", 5)
    assert entry == store.stat("a/b.bin")


def test_an_empty_folder_lists_nothing(store):
    assert list(store.entries()) == []
    assert list(store.entries("no/such/")) == []


def test_an_empty_file_is_a_file(store, tmp_path):
    store.write("empty", b"")
    assert store.read("empty") == b""
    store.download("empty", store.stat("empty").version, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_names_are_only_names(store, key, tmp_path):
    store.write(key, b"odd")
    assert [entry.key for entry in store.entries()] == [key]
    holder, name = open_file(store.uri(key), S3Config())
    assert holder.read(name) == b"odd"


def test_a_listing_is_complete_and_always_in_the_same_order(store):
    keys = {f"{folder}/{n:02d}.mp3" for folder in ("2019", "2020", "x/y") for n in range(7)}
    keys |= {"top.mp3", "2019.mp3"}
    for key in keys:
        store.write(key, b"1")
    listed = [entry.key for entry in store.entries()]
    assert sorted(listed) == sorted(keys)
    assert listed == [entry.key for entry in store.entries()]
    assert {e.key for e in store.entries("2019")} == {k for k in keys if k.startswith("2019")}


def test_only_the_first_writes_if_absent(store):
    assert store.write_if_absent("claim", b"first")
    assert not store.write_if_absent("claim", b"second")
    assert store.read("claim") == b"first"


def test_writing_the_same_again_counts_as_written(store):
    assert store.write_if_absent("claim", b"same")
    assert store.write_if_absent("claim", b"same")


def test_of_many_claims_at_once_one_wins(store):
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda n: store.write_if_absent("claim", b"%d" % n), range(16)))
    assert won.count(True) == 1
    assert store.read("claim") == b"%d" % won.index(True)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_on_a_disk_without_links_one_claim_wins_too(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda n: store.write_if_absent("claim", b"%d" % n), range(16)))
    assert won.count(True) == 1
    assert store.read("claim") == b"%d" % won.index(True)
    assert [entry.key for entry in store.entries()] == ["claim"]


def test_readers_see_the_old_file_or_the_new_one(store):
    old, new = b"a" * 300_000, b"b" * 400_000
    store.write("file", old)
    done, seen = threading.Event(), set()

    def read():
        while not done.is_set():
            seen.add(store.read("file"))

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        for _ in range(10):
            store.write("file", new)
            store.write("file", old)
        done.set()
        [reader.result() for reader in readers]
    assert seen <= {old, new}


def test_a_new_content_has_a_new_version(store):
    store.write("file", b"one")
    before = store.stat("file").version
    store.write("file", b"two, longer")
    assert store.stat("file").version != before


@pytest.mark.parametrize("size_bytes", [1, PART_BYTES, 2 * PART_BYTES + 17])
def test_a_download_is_the_file(store, tmp_path, size_bytes):
    data = bytes(range(256)) * (size_bytes // 256 + 1)
    store.write("long", data[:size_bytes])
    store.download("long", store.stat("long").version, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data[:size_bytes] == store.read("long")


def test_a_file_that_changed_since_the_plan_is_not_downloaded(store, tmp_path):
    store.write("file", b"planned")
    planned = store.stat("file").version
    store.write("file", b"another")
    with pytest.raises(StorageError, match="has changed since it was planned") as error:
        store.download("file", planned, tmp_path / "copy")
    assert error.value.reason == "changed"


def test_an_upload_is_the_file(store, tmp_path):
    data = bytes(range(256)) * 300_000
    (tmp_path / "big").write_bytes(data)
    store.upload(tmp_path / "big", "big")
    assert store.read("big") == data


def test_what_is_deleted_is_gone_and_may_be_deleted_again(store):
    store.write("file", b"1")
    store.delete("file")
    store.delete("file")
    assert list(store.entries()) == []


def test_a_file_that_is_not_there_is_named(store):
    for action in (store.read, store.stat, store.age_s):
        with pytest.raises(StorageError, match=r"gone\.mp3: there is no such file") as error:
            action("gone.mp3")
        assert error.value.reason == "not_found"


def test_age_counts_from_the_last_write(store):
    store.write("file", b"1")
    assert -0.1 <= store.age_s("file") < 3


def test_a_store_travels_to_another_process(store):
    store.write("file", b"1")
    assert pickle.loads(pickle.dumps(store)).read("file") == b"1"


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    for key in ("a.mp3", "lost+found/b.mp3"):
        store.write(key, b"1")
    scandir = os.scandir

    def refusing(folder):
        if str(folder).endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(StorageError, match=r"lost\+found: access is not allowed \(check the owner"):
        list(store.entries())


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EROFS, "denied"), (errno.ENAMETOOLONG, "bad_location"), (errno.EIO, "io")],
)
def test_what_a_disk_says_by_number_has_a_reason(number, reason):
    with pytest.raises(StorageError) as told, one_sentence("/disk"):
        raise OSError(number, os.strerror(number))
    assert told.value.reason == reason
    assert "credentials" not in str(told.value)
    assert ("read-only" in str(told.value)) == (number == errno.EROFS)


def test_an_error_travels_to_another_process(store):
    with pytest.raises(StorageError) as error:
        store.read("gone")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.mark.parametrize("uri", ["gs://bucket/x", "http://host/x", "s3:///x"])
def test_a_location_that_is_no_store_is_an_error(uri):
    with pytest.raises(StorageError, match="not the name of a file or a bucket"):
        open_store(uri, S3Config())


def test_what_could_not_be_written_leaves_nothing_in_the_folder(tmp_path, monkeypatch):
    store = open_store(str(tmp_path), S3Config())
    assert store.write_if_absent("part", b"first")
    assert not store.write_if_absent("part", b"second")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="there is no space left"):
        store.write("other", b"third")
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def full(descriptor):
    raise OSError(errno.ENOSPC, "no space")


def test_what_killed_writers_left_goes_after_a_day_and_nothing_else(tmp_path):
    store = open_store(str(tmp_path), S3Config())
    store.write("a/part", b"kept")
    old, new = (tmp_path / "a" / f".aside-{name}" for name in ("old", "new"))
    for aside in (old, new):
        aside.touch()
    os.utime(old, (0, 0))
    os.utime(tmp_path / "a/part", (0, 0))
    store.sweep()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".aside-new", "part"]


@pytest.mark.parametrize("key", ["/etc/x", "../x", "a/../../x", "a/.."])
def test_no_key_leads_out_of_a_folder(tmp_path, key):
    store = LocalStore(tmp_path / "out")
    for act in (lambda: store.write(key, b"x"), lambda: store.read(key)):
        with pytest.raises(StorageError) as told:
            act()
        assert told.value.reason == "bad_location"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_link_leads_what_is_written_out_of_a_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/exports").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(tmp_path / "out")
    store = LocalStore(tmp_path / "linked")
    with pytest.raises(StorageError, match="a link leads outside"):
        store.write("exports/a/b.srt", b"x")
    assert not list((tmp_path / "elsewhere").iterdir())
    store.write("inside/b.srt", b"x")  # the folder itself may be a link
    assert (tmp_path / "out/inside/b.srt").exists()
