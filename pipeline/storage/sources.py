"""From an input to its recordings: a file, a folder, a pattern or a manifest."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from nightscribe.records import Recording
from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config, local_path, open_file, open_store, public
from nightscribe.storage.manifests import is_manifest, read_manifest
from nightscribe.storage.store import Entry, Store
from nightscribe.storage.tables import in_parallel

# Of files whose formats are in `audio.ffmpeg.DEMUXERS`.
_SUFFIXES = """
.3g2 .3gp .3gpp .aac .ac3 .adts .aif .aifc .aiff .amr .ape .asf .au .avi .awb .bwf .caf .divx .dts
.eac3 .f4v .flac .flv .g722 .gsm .m2ts .m4a .m4b .m4p .m4r .m4v .mka .mkv .mov .mp1 .mp2 .mp3 .mp4
.mpa .mpe .mpeg .mpg .mpga .mts .oga .ogg .ogm .ogv .ogx .opus .ra .rf64 .rm .rmvb .snd .spx .ts
.tta .vob .voc .w64 .wav .webm .wma .wmv .wv
"""
SUFFIXES = frozenset(_SUFFIXES.split())
NO_SUFFIX = "without suffix"
MAX_NAMED_SUFFIXES = 8
MAGIC = re.compile(r"[*?\[]")
_GLOB_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", re.DOTALL)


def recordings(
    source: str, s3: S3Config, skipped: Counter[str] | None = None
) -> Iterator[Recording]:
    """Every recording the source names, as it is now, a few thousand in memory at a time.

    Raises ValueError at once if there is none. Files in a manifest need not exist: fetching them
    becomes a failure. Files of a folder whose names do not end like those of recordings are counted
    in `skipped`, by suffix, while the folder is read.
    """
    skipped = Counter() if skipped is None else skipped
    found = iter(_recordings(_absolute(source), s3, skipped))
    first = next(found, None)
    if first is None:
        raise ValueError(_nothing_at(source, skipped))
    return chain([first], found)


def describe_skipped(skipped: Counter[str]) -> str:
    """The number of files by suffix, the most frequent first."""
    named = [f"{number:,} {suffix}" for suffix, number in skipped.most_common(MAX_NAMED_SUFFIXES)]
    others = len(skipped) - len(named)
    return ", ".join([*named, *([f"{others:,} other suffixes"] if others > 0 else [])])


def _nothing_at(source: str, skipped: Counter[str]) -> str:
    if is_manifest(source):
        return f"{source}: the manifest has no rows"
    path = Path(_absolute(source))
    if not (source.startswith("s3://") or has_magic(source) or path.exists()):
        return f"{source}: there is no such file or folder"
    if skipped:
        pattern = f"{source.rstrip('/')}/**"
        return (
            f"{source}: no names of recordings were found, but {describe_skipped(skipped)}; to "
            f"transcribe them, write input='{pattern}'"
        )
    return f"{source}: no recordings were found"


def _recordings(source: str, s3: S3Config, skipped: Counter[str]) -> Iterator[Recording]:
    if is_manifest(source):
        return _of_manifest(source, s3)
    single = _stat(source, s3)
    if single is not None:
        return iter([single])
    # A folder may be called "calls [2020]".
    if has_magic(source) and not os.path.isdir(source):
        return _of_pattern(source, s3)
    store = open_store(source, s3)
    return (
        _recording(store, entry) for entry in store.entries() if _is_recording(entry.key, skipped)
    )


def _of_pattern(pattern: str, s3: S3Config) -> Iterator[Recording]:
    folder = fixed_folder(pattern)
    store, is_match = open_store(folder, s3), matcher(pattern.removeprefix(folder)).fullmatch
    return (_recording(store, entry) for entry in store.entries() if is_match(entry.key))


def manifest_rows(source: str, s3: S3Config) -> Iterator[dict[str, Any]]:
    """The rows of a manifest under our names, each uri as its recording has it."""
    source = _absolute(source)
    if not is_manifest(source):
        raise ValueError(
            f"{source} is not a manifest: its name must end in .csv, .jsonl or .parquet"
        )
    store, key = open_file(source, s3)
    folder = source.rpartition("/")[0]
    with store.open(key) as file:
        for row in read_manifest(source, file):
            named = {name: row[name] for name in ("uri", "prompt_audio") if name in row}
            yield row | {name: _beside(folder, uri) for name, uri in named.items()}


def _of_manifest(source: str, s3: S3Config) -> Iterator[Recording]:
    rows = manifest_rows(source, s3)
    # Who really spoke when is only for scoring.
    planned = (
        {name: row[name] for name in row if name not in ("words", "speaker_spans")} for row in rows
    )
    yield from in_parallel(lambda row: _of_row(row, s3), planned)


def _of_row(row: dict[str, Any], s3: S3Config) -> Recording:
    """The row as a recording; the store is asked only for what the row does not have."""
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


def _is_recording(key: str, skipped: Counter[str]) -> bool:
    """Whether a name ends like that of a recording; any other but hidden names is counted."""
    path = PurePosixPath(key)
    if path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    skipped[suffix or NO_SUFFIX] += 1
    return False


def _beside(folder: str, uri: str) -> str:
    """A relative name in a manifest is relative to the folder of the manifest."""
    return uri if "://" in uri or uri.startswith("/") else f"{folder}/{uri}"


def _absolute(source: str) -> str:
    if "://" in source and not source.startswith("file://"):
        return source
    path = os.fspath(local_path(source))
    return os.path.abspath(os.path.expanduser(path)) + "/" * source.endswith("/")


def has_magic(name: str) -> bool:
    return MAGIC.search(name) is not None


def fixed_folder(pattern: str) -> str:
    """The folders before the first one with a wildcard in its name, with a final slash."""
    return MAGIC.split(pattern, maxsplit=1)[0].rpartition("/")[0] + "/"


@lru_cache
def matcher(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression: `*` stays within a folder, `**` crosses folders."""
    return re.compile("".join(map(_expression, _GLOB_TOKEN.findall(pattern))))


def _expression(token: str) -> str:
    if token.startswith("[") and len(token) > 1:
        inside = token[1:-1].replace("\\", "\\\\")
        return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return known.get(token, re.escape(token))
