"""The seam between everything above and where files really lie.

A store is a folder: on disk, or under a prefix of a bucket. Keys are relative to it, with "/".
Everybody sees a file whole or not at all, at any moment, whoever is killed.
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
    version: str  # another one whenever the bytes may have changed


class Store(Protocol):
    """What disk and S3 both offer. Every trouble is a StorageError."""

    def uri(self, key: str) -> str:
        """The full name of a file, for people and for other programs."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every file whose key starts so, in one order, a few thousand in memory at a time."""

    def stat(self, key: str) -> Entry: ...

    def age_s(self, key: str) -> float:
        """Seconds since the file was written, both moments by the clock of the store."""

    def read(self, key: str) -> bytes: ...

    def open(self, key: str) -> BinaryIO:
        """The file to read here and there, without reading the rest."""

    def download(self, key: str, version: str, path: Path) -> None:
        """Copy the file to a local path, or fail with `changed` if it is another version now."""

    def write(self, key: str, data: bytes) -> None: ...

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the file exists; whether it now holds our bytes."""

    def upload(self, path: Path, key: str) -> None:
        """Write a file of any size from a local one."""

    def delete(self, key: str) -> None:
        """Remove the file, which may be gone already."""

    def sweep(self) -> None:
        """Remove what killed writers have left behind long ago."""
