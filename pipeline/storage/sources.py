"""From what people name as input to recordings: a file, a folder, a pattern or a manifest."""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from nightscribe.records import Recording
from nightscribe.storage.errors import StorageError
from nightscribe.storage.globs import fixed_folder, has_magic, matcher
from nightscribe.storage.manifests import is_manifest, read_manifest
from nightscribe.storage.opening import S3Config, local_path, open_file, open_store, public
from nightscribe.storage.store import Entry, Store
from nightscribe.storage.tables import side_by_side

SUFFIXES = (
    *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".g722", ".gsm", ".m4a", ".m4b"),
    *(".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm"),
    *(".wma", ".wv", ".3gp"),
)


def recordings(source: str, s3: S3Config) -> Iterator[Recording]:
    """Every recording the source names, as it is now, a few thousand in memory at a time.

    Raises ValueError at once if there is none. What a manifest names need not exist: whoever
    fetches it will tell.
    """
    found = iter(_recordings(_absolute(source), s3))
    first = next(found, None)
    if first is None:
        raise ValueError(_nothing_at(source))
    return chain([first], found)


def _nothing_at(source: str) -> str:
    if is_manifest(source):
        return f"{source}: the manifest has no rows"
    path = Path(_absolute(source))
    if not (source.startswith("s3://") or has_magic(source) or path.exists()):
        return f"{source}: there is no such file or folder"
    return f"{source}: no recordings there; their names end in {', '.join(SUFFIXES)}"


def _recordings(source: str, s3: S3Config) -> Iterator[Recording]:
    if is_manifest(source):
        return _of_manifest(source, s3)
    single = _stat(source, s3)
    if single is not None:
        return iter([single])
    # A folder may be called "calls [2020]".
    if has_magic(source) and not os.path.isdir(source):
        return _of_pattern(source, s3)
    store = open_store(source, s3)
    return (_recording(store, entry) for entry in store.entries() if _is_recording(entry.key))


def _of_pattern(pattern: str, s3: S3Config) -> Iterator[Recording]:
    folder = fixed_folder(pattern)
    store, is_match = open_store(folder, s3), matcher(pattern.removeprefix(folder)).fullmatch
    return (_recording(store, entry) for entry in store.entries() if is_match(entry.key))


def manifest_rows(source: str, s3: S3Config) -> Iterator[dict[str, Any]]:
    """The rows of a manifest under our names, each uri as its recording has it."""
    source = _absolute(source)
    if not is_manifest(source):
        raise ValueError(
            f"{source} is no manifest: its name ends in none of .csv, .jsonl, .parquet"
        )
    store, key = open_file(source, s3)
    folder = source.rpartition("/")[0]
    with store.open(key) as file:
        for row in read_manifest(source, file):
            yield row | {"uri": _beside(folder, row["uri"])}


def _of_manifest(source: str, s3: S3Config) -> Iterator[Recording]:
    rows = manifest_rows(source, s3)
    # When words were said is of use only to whoever measures.
    planned = ({name: row[name] for name in row if name != "words"} for row in rows)
    yield from side_by_side(lambda row: _of_row(row, s3), planned)


def _of_row(row: dict[str, Any], s3: S3Config) -> Recording:
    """The row as a recording; the store is asked only for what the row does not say."""
    row = row | {"uri": public(row["uri"])}
    if "version" in row and "size_bytes" in row:
        return Recording(**row)
    try:
        store, key = open_file(row["uri"], s3)
        entry = store.stat(key)
        return Recording(**row | {"size_bytes": entry.size_bytes, "version": entry.version})
    except StorageError as error:
        if error.is_transient:
            raise
        return Recording(**row | {"size_bytes": 0, "version": error.reason})


def _stat(source: str, s3: S3Config) -> Recording | None:
    if source.endswith("/") or (source.startswith("s3://") and source.count("/") == 2):
        return None
    store, key = open_file(source, s3)
    try:
        return None if os.path.isdir(source) else _recording(store, store.stat(key))
    except StorageError as error:
        if error.reason == "not_found":
            return None
        raise


def _recording(store: Store, entry: Entry) -> Recording:
    return Recording(uri=store.uri(entry.key), size_bytes=entry.size_bytes, version=entry.version)


def _is_recording(key: str) -> bool:
    path = PurePosixPath(key)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _beside(folder: str, uri: str) -> str:
    """A relative name in a manifest counts from where the manifest lies."""
    return uri if "://" in uri or uri.startswith("/") else f"{folder}/{uri}"


def _absolute(source: str) -> str:
    if "://" in source and not source.startswith("file://"):
        return source
    path = os.fspath(local_path(source))
    return os.path.abspath(os.path.expanduser(path)) + "/" * source.endswith("/")
