"""What only an object store can do wrong."""

import json
from pathlib import Path

import pytest

from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.s3 import PART_BYTES, open_bucket
from tests.chaos.faulty_s3 import Faults, FaultyS3
from tests.s3_server import SECRET_KEY


@pytest.fixture
def unreliable(s3_server, s3_bucket):
    """The server behind a proxy that spoils a quarter of all requests."""
    with FaultyS3(s3_server.port, Faults(0.25, seed=7, slow_s=0.01)) as proxy:
        yield proxy


def test_every_request_survives_a_store_that_fails_often(unreliable, s3_bucket, tmp_path):
    store = open_store(s3_bucket, S3Config(endpoint=unreliable.endpoint))
    data = bytes(range(256)) * (3 * PART_BYTES // 256)
    for n in range(10):
        assert store.write_if_absent(f"claims/{n}", b"mine %d" % n)
        assert not store.write_if_absent(f"claims/{n}", b"other")
        store.write(f"files/{n}", data[: n * 1000])
        assert store.read(f"files/{n}") == data[: n * 1000]
    store.write("long", data)
    store.download("long", store.stat("long").version, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert len(list(store.entries())) == 21
    assert set(unreliable.faults.seen) == {
        "unavailable", "lost_reply", "slow", "reset", "truncated", "short_length",
    }  # fmt: skip


def test_a_store_that_never_answers_is_given_up(s3_bucket):
    config = S3Config(endpoint="http://127.0.0.1:9", connect_timeout_s=0.2)
    with pytest.raises(StorageError, match=r"cannot be reached \(at http://127\.0\.0\.1:9\)$"):
        open_store(s3_bucket, config).read("file")


def test_wrong_keys_are_refused_and_never_shown(s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StorageError) as error:
        open_store(s3_bucket, S3Config(region="eu-west-1")).read("file")
    assert error.value.reason == "denied"
    assert "wrong-secret" not in str(error.value)


def test_missing_keys_are_named_as_such(s3_bucket, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError) as error:
        open_store(s3_bucket, S3Config(region="eu-west-2")).read("file")
    assert error.value.reason == "no_credentials"


def test_an_unknown_profile_is_a_matter_of_credentials(s3_bucket):
    with pytest.raises(StorageError) as error:
        open_store(s3_bucket, S3Config(profile="nobody")).read("file")
    assert error.value.reason == "no_credentials"


def test_a_bucket_that_does_not_exist_is_not_found(s3_bucket):
    with pytest.raises(StorageError) as error:
        list(open_store("s3://no-such-bucket-here", S3Config()).entries())
    assert error.value.reason == "not_found"
    assert "there is no such bucket" in str(error.value)


def test_a_configuration_holds_no_password():
    with pytest.raises(ValueError, match="holds a password") as error:
        S3Config(endpoint=f"http://me:{SECRET_KEY}@store:9000")
    assert SECRET_KEY not in str(error.value)


def test_checksums_are_one_of_two():
    with pytest.raises(ValueError, match="when_required, not never"):
        S3Config(checksums="never")


def test_a_server_takes_the_rule_against_dangling_uploads(s3_server, shared_bucket):
    rule = json.loads((Path(__file__).parent.parent.parent / "ops/s3-lifecycle.json").read_text())
    client, bucket = s3_server.client(), shared_bucket
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rule)
    (kept,) = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert kept["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}


def test_everything_written_asks_for_the_acl_and_nothing_else_does(s3_bucket, tmp_path):
    # A client of its own: those with the same settings are shared.
    config = S3Config(acl="bucket-owner-full-control", read_timeout_s=59.0)
    store, asked = open_bucket(s3_bucket, config), []

    def note(request, **_):
        asked.append((request.method, request.url, request.headers.get("x-amz-acl")))

    store._client.meta.events.register("before-send.s3", note)
    (tmp_path / "long").write_bytes(bytes(2 * PART_BYTES))
    store.write("written", b"1")
    assert store.write_if_absent("claimed", b"1")
    store.upload(tmp_path / "long", "uploaded")
    assert {entry.key for entry in store.entries()} == {"written", "claimed", "uploaded"}
    writes = [(method, url) for method, url, acl in asked if acl == b"bucket-owner-full-control"]
    assert [method for method, _ in writes] == ["PUT", "PUT", "POST"]
    assert writes[-1][1].endswith("uploaded?uploads")
    assert {acl for method, _, acl in asked if method == "GET"} == {None}
