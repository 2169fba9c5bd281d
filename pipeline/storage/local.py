"""A folder on a disk that all machines of a run share."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO
from unicodedata import category
from urllib.parse import quote

from nightscribe.storage.errors import StorageError, one_sentence
from nightscribe.storage.store import OUTSIDE, Entry

ASIDE = ".aside-"  # prefix of files that are being written; no reader's glob matches it
ASIDE_LIFE_S = 24 * 3600
# Errors of file systems without hard links, such as network shares and USB sticks.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalStore:
    """Files under one folder; each is written under another name, flushed and then renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def uri(self, key: str) -> str:
        """The path, or a file:// name where the path is not text."""
        path = str(self._path(key))
        return path if _is_text(path) else f"file://{quote(os.fsencode(path))}"

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        folder = self.folder / prefix.rpartition("/")[0]
        with one_sentence(str(folder)):
            for path in _files_under(folder):
                key = path.relative_to(self.folder).as_posix()
                if key.startswith(prefix):
                    yield self._link(key, path) if path.is_symlink() else self.stat(key)

    def _link(self, key: str, path: Path) -> Entry:
        """The entry of a link, also if its target is missing or outside the folder."""
        target, folder = os.path.realpath(path), os.path.realpath(self.folder)
        if not Path(target).is_relative_to(folder):
            return Entry(key, 0, OUTSIDE)
        return self.stat(key) if path.exists() else Entry(key, 0, "not_found")

    def stat(self, key: str) -> Entry:
        with one_sentence(self.uri(key)):
            facts = self._path(key).stat()
            return Entry(key, facts.st_size, f"{facts.st_size}-{facts.st_mtime_ns}")

    def age_s(self, key: str) -> float:
        with self._aside(key) as probe, one_sentence(self.uri(key)):
            probe.write_bytes(b"")
            return probe.stat().st_mtime - self._path(key).stat().st_mtime

    def read(self, key: str) -> bytes:
        with one_sentence(self.uri(key)):
            return self._path(key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        with one_sentence(self.uri(key)):
            return self._path(key).open("rb")

    def download(self, key: str, version: str, path: Path) -> None:
        with one_sentence(self.uri(key)):
            shutil.copyfile(self._path(key), path)
        if self.stat(key).version != version:
            raise StorageError("changed", self.uri(key))

    def write(self, key: str, data: bytes) -> None:
        with self._aside(key) as aside, one_sentence(self.uri(key)):
            _write_through(aside, data)
            os.replace(aside, self._path(key))
            _flush_folder(aside.parent)

    def write_if_absent(self, key: str, data: bytes) -> bool:
        with self._aside(key) as aside, one_sentence(self.uri(key)):
            _write_through(aside, data)
            try:
                _link(aside, self._path(key))
            except FileExistsError:
                return self._path(key).read_bytes() == data
            _flush_folder(aside.parent)
            return True

    def upload(self, path: Path, key: str) -> None:
        with self._aside(key) as aside, one_sentence(self.uri(key)):
            shutil.copyfile(path, aside)
            _flush(aside)
            os.replace(aside, self._path(key))
            _flush_folder(aside.parent)

    def delete(self, key: str) -> None:
        with one_sentence(self.uri(key)):
            self._path(key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove unfinished files that killed writers left long ago."""
        with one_sentence(str(self.folder)):
            for aside in self.folder.rglob(f"{ASIDE}*"):
                # A file that is being written may be renamed at any moment.
                with suppress(FileNotFoundError):
                    if time.time() - aside.stat().st_mtime > ASIDE_LIFE_S:
                        aside.unlink()

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise StorageError("bad_location", key, "it leaves its folder")
        return self.folder / key

    def _check_inside(self, folder: Path, key: str) -> None:
        """Refuse to write through a link that leads out of this store."""
        if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self.folder)):
            raise StorageError("bad_location", str(folder / Path(key).name), "a link leads outside")

    @contextmanager
    def _aside(self, key: str) -> Iterator[Path]:
        """A temporary name in the folder of the file, removed at the end."""
        folder = self._path(key).parent
        aside = folder / f"{ASIDE}{token_hex(8)}"
        try:
            with one_sentence(self.uri(key)):
                self._check_inside(folder, key)
                folder.mkdir(parents=True, exist_ok=True)
            yield aside
        finally:
            with one_sentence(self.uri(key)):
                aside.unlink(missing_ok=True)


def _is_text(path: str) -> bool:
    """Whether a path can be stored and printed: valid Unicode without control characters."""
    return all(letter.isprintable() or category(letter) == "Zs" for letter in path)


def _files_under(folder: Path) -> Iterator[Path]:
    """In the order in which S3 would list them; links to folders are not followed."""
    if not folder.is_dir():
        return
    with one_sentence(str(folder)), os.scandir(folder) as found:
        names = sorted(
            (
                entry.name + "/" * entry.is_dir(follow_symlinks=False),
                _is_file(entry),
            )
            for entry in found
            if not entry.name.startswith(ASIDE)
        )
    for name, is_file in names:
        if name.endswith("/"):
            yield from _files_under(folder / name)
        elif is_file:
            yield folder / name


def _is_file(entry: os.DirEntry[str]) -> bool:
    """True for links too, unless they lead to a folder."""
    if entry.is_symlink():
        return not os.path.isdir(entry.path)  # a DirEntry raises on circles
    return entry.is_file(follow_symlinks=False)


def _link(written: Path, path: Path) -> None:
    """Link a file under a new name, or copy it where the disk has no hard links."""
    try:
        os.link(written, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with path.open("xb") as file:
            file.write(written.read_bytes())
            file.flush()
            os.fsync(file.fileno())


def _write_through(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _flush(path)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """So that the new name survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
