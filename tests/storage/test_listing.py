"""Listings of a million objects against a made-up server that counts what is asked and held."""

import threading
from itertools import islice

import pytest

from nightscribe.storage.listing import list_objects

PAGE = 10


class Bucket:
    """Answers like S3: pages of keys in order, folders folded by the delimiter."""

    def __init__(self, keys):
        self.keys, self.num_requests, self._lock = sorted(keys), 0, threading.Lock()

    def page(self, prefix, delimiter, token):
        with self._lock:
            self.num_requests += 1
        rows = self._folded(prefix, delimiter)
        start = int(token.get("ContinuationToken", 0))
        part = rows[start : start + PAGE]
        return {
            "Contents": [{"Key": row} for row in part if not delimiter or not row.endswith("/")],
            "CommonPrefixes": [{"Prefix": row} for row in part if delimiter and row.endswith("/")],
            "IsTruncated": start + PAGE < len(rows),
            "NextContinuationToken": str(start + PAGE),
        }

    def _folded(self, prefix, delimiter):
        rows = [key for key in self.keys if key.startswith(prefix)]
        if not delimiter:
            return rows
        rest = ((key, key[len(prefix) :].partition("/")) for key in rows)
        return sorted({prefix + p[0] + p[1] for _, p in rest})


def keys_of(bucket, prefix=""):
    return [found["Key"] for found in list_objects(bucket.page, prefix)]


@pytest.mark.parametrize("num_folders", [0, 1, 2, 9, 400])
def test_every_object_comes_once_and_in_order(num_folders):
    keys = [f"in/{n % num_folders:03d}/{n:05d}" for n in range(537)] if num_folders else []
    keys += [f"in/{n:05d}.mp3" for n in range(5)]
    assert keys_of(Bucket(keys), "in/") == sorted(keys)


def test_a_folder_for_each_recording_is_listed_in_one_go():
    bucket = Bucket([f"{n:05d}/audio.mp3" for n in range(5000)])
    assert len(keys_of(bucket)) == 5000
    assert bucket.num_requests <= 5000 / PAGE + 2


def test_markers_of_folders_are_no_objects():
    assert keys_of(Bucket(["a/", "a/1.mp3", "b/", "b/2.mp3"])) == ["a/1.mp3", "b/2.mp3"]


def test_a_listing_that_is_not_read_on_stops_asking():
    bucket = Bucket([f"{n % 4}/{n:05d}" for n in range(20_000)])
    listing = list_objects(bucket.page, "")
    assert len(list(islice(listing, 15))) == 15
    del listing
    assert bucket.num_requests < 60


def test_an_error_in_a_folder_reaches_the_reader():
    bucket = Bucket(["a/1", "b/1"])

    def page(prefix, delimiter, token):
        if prefix == "b/":
            raise ValueError("broken")
        return bucket.page(prefix, delimiter, token)

    with pytest.raises(ValueError, match="broken"):
        list(list_objects(page, ""))


def test_a_page_that_ends_early_hides_no_folder():
    """A server may give up a page before it is full and say that there is more."""
    bucket = Bucket(["a/1.mp3", "b/2.mp3"])

    def page(prefix, delimiter, token):
        whole = bucket.page(prefix, delimiter, token)
        if not delimiter or not whole["CommonPrefixes"]:
            return whole
        first = whole["CommonPrefixes"][:1]
        return whole | {"CommonPrefixes": first, "IsTruncated": True}

    assert [found["Key"] for found in list_objects(page, "")] == ["a/1.mp3", "b/2.mp3"]
