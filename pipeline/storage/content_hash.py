"""Finds files with the same bytes, and reads only those that may have the same.

On an object store the ETag decides. Files on disk are compared by size first, then by a hash of
both ends, and only then by a hash of all their bytes.
"""

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from io import BufferedReader

from nightscribe.records import Recording
from nightscribe.storage.errors import SENTENCES
from nightscribe.storage.locations import local_path

SAMPLED_BYTES = 64 * 2**10
CACHED_FILES = 4096


class ContentHasher:
    """Gives two files the same content id if and only if their bytes are the same."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], str] = {}
        self._compared: set[tuple[object, ...]] = set()

    def __call__(self, recording: Recording) -> str:
        """On disk: the name of the first file with these bytes; an unreadable file is unique."""
        if recording.version in SENTENCES:
            return recording.uri
        if recording.uri.startswith("s3://"):
            return f"{recording.version} {recording.size_bytes}"
        return self._first_file(recording.uri, recording.size_bytes)

    def _first_file(self, uri: str, size_bytes: int) -> str:
        key: tuple[object, ...] = (size_bytes,)
        for fingerprint in (_ends, _whole):
            first = self._first.setdefault(key, uri)
            if first == uri:
                return uri
            if key not in self._compared:
                self._compared.add(key)
                self._first[(*key, fingerprint(first))] = first
            key = (*key, fingerprint(uri))
        return self._first.setdefault(key, uri)


@lru_cache(CACHED_FILES)
def _ends(uri: str) -> str:
    """The hash of the first and the last bytes."""
    return _hashed(uri, lambda file: file.read(SAMPLED_BYTES) + _tail(file))


@lru_cache(CACHED_FILES)
def _whole(uri: str) -> str:
    return _hashed(uri, lambda file: hashlib.file_digest(file, "sha256").digest())


def _hashed(uri: str, read: Callable[[BufferedReader], bytes]) -> str:
    try:
        with local_path(uri).open("rb") as file:
            return hashlib.sha256(read(file)).hexdigest()
    except OSError:  # fetching it will report why; until then it is unique
        return uri


def _tail(file: BufferedReader) -> bytes:
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(size_bytes - SAMPLED_BYTES, 0))
    return file.read()
