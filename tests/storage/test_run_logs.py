"""Logs beside the output: each content is uploaded once, and the index tells its hash."""

import hashlib

import pytest

from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.run import LOGS_FOLDER, publish_logs, published_logs


@pytest.fixture
def store(folder):
    return open_store(folder, S3Config())


def test_nothing_is_uploaded_twice_and_what_grows_is_again(store, tmp_path):
    files = {name: tmp_path / name for name in ("a.jsonl", "b.log")}
    for path in files.values():
        path.write_text("one\n")
    assert len(publish_logs(store, files)) == 2
    assert publish_logs(store, files) == []
    with files["b.log"].open("a") as file:
        file.write("two\n")
    assert publish_logs(store, files) == [f"{LOGS_FOLDER}/b.log"]
    assert store.read(f"{LOGS_FOLDER}/b.log") == b"one\ntwo\n"
    hashes = {name: hashlib.sha256(path.read_bytes()) for name, path in files.items()}
    assert published_logs(store) == {name: sha.hexdigest() for name, sha in hashes.items()}


def test_logs_of_earlier_attempts_stay_in_the_index(store, tmp_path):
    (tmp_path / "first").write_text("1")
    (tmp_path / "second").write_text("2")
    publish_logs(store, {"first": tmp_path / "first"})
    publish_logs(store, {"second": tmp_path / "second"})
    assert published_logs(store).keys() == {"first", "second"}
