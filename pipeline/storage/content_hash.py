"""Which files hold the same bytes, found without reading those that cannot.

An object store's ETag tells. Files on disk are compared by size first, then by a sample of both
ends, and only then by all their bytes.
"""

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from io import BufferedReader

from nightscribe.records import Recording
from nightscribe.storage.errors import SENTENCES
from nightscribe.storage.opening import local_path

SAMPLED_BYTES = 64 * 2**10
CACHED_FILES = 4096


class Contents:
    """Names contents: the same name for two files if and only if their bytes are the same."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], str] = {}
        self._compared: set[tuple[object, ...]] = set()

    def name(self, recording: Recording) -> str:
        """The name of the first file that had these bytes; what cannot be read is like no other."""
        if recording.version in SENTENCES:
            return recording.uri
        if recording.uri.startswith("s3://"):
            return f"{recording.version} {recording.size_bytes}"
        return self._name(recording.uri, recording.size_bytes)

    def _name(self, uri: str, size_bytes: int) -> str:
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
    """Of the first and the last bytes."""
    return _hashed(uri, lambda file: file.read(SAMPLED_BYTES) + _tail(file))


@lru_cache(CACHED_FILES)
def _whole(uri: str) -> str:
    return _hashed(uri, lambda file: hashlib.file_digest(file, "sha256").digest())


def _hashed(uri: str, read: Callable[[BufferedReader], bytes]) -> str:
    try:
        with local_path(uri).open("rb") as file:
            return hashlib.sha256(read(file)).hexdigest()
    except OSError:  # whoever fetches it will say why; until then it is like no other
        return uri


def _tail(file: BufferedReader) -> bytes:
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(size_bytes - SAMPLED_BYTES, 0))
    return file.read()
