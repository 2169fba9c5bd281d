"""The interface of stores, which disks and S3 implement.

A store is a folder: on disk, or under a prefix of a bucket. Keys are relative to it, with "/".
Writes are atomic: every reader sees a file whole or not at all, whichever process is killed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

# The version of what is listed and must not be opened: a link that leaves the folder.
OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a store, as listed."""

    key: str
    size_bytes: int
    version: str  # differs whenever the bytes may have changed


class Store(Protocol):
    """What disk and S3 both implement. Every error is a StorageError."""

    def uri(self, key: str) -> str:
        """The full name of a file, for people and for other programs."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every file whose key has the prefix, in order, a few thousand in memory at a time."""

    def stat(self, key: str) -> Entry: ...

    def age_s(self, key: str) -> float:
        """Seconds since the file was written, by the clock of the store."""

    def read(self, key: str) -> bytes: ...

    def open(self, key: str) -> BinaryIO:
        """The file, for reading parts of it without the rest."""

    def download(self, key: str, version: str, path: Path) -> None:
        """Copy the file to a local path, or fail with `changed` if it is another version now."""

    def write(self, key: str, data: bytes) -> None: ...

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the file exists; whether it now has these bytes."""

    def upload(self, path: Path, key: str) -> None:
        """Write a file of any size from a local one."""

    def delete(self, key: str) -> None:
        """Remove the file if it exists."""

    def sweep(self) -> None:
        """Remove unfinished files that killed writers left long ago."""
