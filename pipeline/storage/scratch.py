"""Local copies of remote files while they are decoded, in scratch space that processes share.

A process reserves space by writing the size into a file that it keeps locked. The kernel releases
the lock when the process dies, and the next process cleans up.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from nightscribe.options import check_options, option
from nightscribe.records import Recording
from nightscribe.storage.errors import StorageError, one_sentence
from nightscribe.storage.locations import S3Config, local_path, open_file
from nightscribe.storage.store import OUTSIDE

POLL_S = 0.1
GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class ScratchConfig:
    """Local disk space for recordings that are fetched from object stores."""

    folder: str = field(
        default_factory=lambda: os.path.join(tempfile.gettempdir(), f"nightscribe-{os.getuid()}"),
        metadata={"help": "folder on a local disk for recordings from S3", "common": True},
    )
    max_gib: float = option(
        50.0, "most space that all processes of a machine take there", above=0, common=True
    )
    wait_s: float = option(3600.0, "how long to wait for free space", above=0)

    def __post_init__(self) -> None:
        check_options(self, "scratch")


@contextmanager
def fetched(recording: Recording, s3: S3Config, scratch: ScratchConfig) -> Iterator[Path]:
    """A local path to the planned bytes: the file itself, or a copy that is removed at the end.

    Raises StorageError with reason `changed` if the file is another version now.
    """
    if recording.version == OUTSIDE:
        raise StorageError(OUTSIDE, recording.uri)
    store, key = open_file(recording.uri, s3)
    if not recording.uri.startswith("s3://"):
        if store.stat(key).version != recording.version:
            raise StorageError("changed", recording.uri)
        yield local_path(recording.uri)
        return
    with _space(recording, scratch) as folder:
        # The decoder goes by the suffix where the bytes do not show the format.
        path = folder / f"recording{PurePosixPath(key).suffix}"
        store.download(key, recording.version, path)
        yield path


def has_changed(recording: Recording, s3: S3Config) -> bool:
    """Whether a file that is read in place has changed since it was planned."""
    if recording.uri.startswith("s3://"):
        return False  # a copy of one version was read
    store, key = open_file(recording.uri, s3)
    try:
        return store.stat(key).version != recording.version
    except StorageError:
        return True


@contextmanager
def _space(recording: Recording, scratch: ScratchConfig) -> Iterator[Path]:
    """A folder of our own, once the recording fits beside the space that others reserved."""
    max_bytes = int(scratch.max_gib * GIB)
    if recording.size_bytes > max_bytes:
        note = f"{recording.size_bytes / GIB:.1f} GiB, and scratch.max_gib is {scratch.max_gib}"
        raise StorageError("no_space", recording.uri, note)
    root = Path(scratch.folder)
    deadline_s = time.monotonic() + scratch.wait_s
    while (reserved := _reserve(root, recording.size_bytes, max_bytes)) is None:
        if time.monotonic() > deadline_s:
            note = f"none became free in {scratch.folder} within {scratch.wait_s:.0f} s"
            raise StorageError("no_space", recording.uri, note)
        time.sleep(POLL_S)
    folder, lock = reserved
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _reserve(root: Path, size_bytes: int, max_bytes: int) -> tuple[Path, int] | None:
    """Reserve the space if it fits; the folder and the lock that reserves it."""
    with one_sentence(str(root)), _opened(root / "lock") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        reserved_bytes = sum(_reserved_bytes(folder) for folder in root.glob("reserved-*"))
        free_bytes = shutil.disk_usage(root).free
        if reserved_bytes + size_bytes > max_bytes or size_bytes > free_bytes:
            return None
        folder = Path(tempfile.mkdtemp(prefix="reserved-", dir=root))
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, str(size_bytes).encode())
        return folder, lock


def _opened(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")


def _reserved_bytes(folder: Path) -> int:
    """What the owner of a folder has reserved; 0 if it is dead, then its folder is removed."""
    with suppress(FileNotFoundError), (folder / "lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0)
    shutil.rmtree(folder, ignore_errors=True)
    return 0
