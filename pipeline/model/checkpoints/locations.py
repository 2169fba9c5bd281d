"""Where a checkpoint's files are: a local folder, or a hub repository at one commit.

Files from the hub are kept in the hub's own cache: interrupted downloads resume, complete files are
not fetched twice, and cached files need no network.
huggingface_hub finds credentials by itself; they never pass through here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from huggingface_hub import errors, hf_hub_download

from nightscribe.model.checkpoints.settings import CheckpointError

HUB = "hf://"
SHIPPED = Path(__file__).parents[2]  # the package, which contains models/tiny
_REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


class Location(Protocol):
    """A set of files by name."""

    @property
    def name(self) -> str: ...

    @property
    def commit(self) -> str | None:
        """The commit that pins the files, if the location has commits."""
        ...

    def find(self, file_name: str) -> Path | None:
        """The file on the local disk, or None if there is none of that name."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """Files on the local disk."""

    path: Path
    commit: None = None

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def find(self, file_name: str) -> Path | None:
        path = self.path / file_name
        return path if is_file(path) else None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on the hub; `commit` may be a branch or tag until `pinned`."""

    name: str
    commit: str

    def pinned(self, file_name: str) -> Self:
        """The same repository at its current commit, read from the path of one of its files."""
        path = self.find(file_name)
        if path is None:
            return self
        # The cache lays files out as snapshots/COMMIT/FILE.
        snapshot = path.parents[len(Path(file_name).parts) - 1]
        return type(self)(self.name, snapshot.name)

    def find(self, file_name: str) -> Path | None:
        try:
            return Path(hf_hub_download(self.name, file_name, revision=self.commit))
        except errors.LocalEntryNotFoundError:
            raise CheckpointError(
                f"{file_name} of {self} is not in the local cache and the hub cannot be reached"
            ) from None
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError:
            raise CheckpointError(
                f"{self} is gated: accept its terms on the hub, then set HF_TOKEN"
            ) from None
        except errors.RepositoryNotFoundError:
            raise CheckpointError(
                f"the hub has no repository {self.name}, or HF_TOKEN may not read it"
            ) from None
        except errors.RevisionNotFoundError:
            raise CheckpointError(f"{self.name} has no revision {self.commit!r}") from None
        # Disks, sockets and the HTTP library raise errors of their own; their texts may be long.
        except Exception as error:
            reason = type(error).__name__
            raise CheckpointError(f"{file_name} of {self} cannot be fetched: {reason}") from None

    def __str__(self) -> str:
        return f"{self.name}@{self.commit}"


def is_file(path: Path) -> bool:
    """Whether there is such a file; of a name too long for the disk there is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def locate(name: str) -> tuple[Location, str | None]:
    """A folder or repository, and the file in it that `name` gives, if it gives one."""
    if not name:
        raise CheckpointError("no model is named: choose one with model=NAME or tts=NAME")
    path = _local_path(name)
    if path.is_dir():
        return LocalFolder(path), None
    if path.is_file():
        return LocalFolder(path.parent), path.name
    if name.startswith(HUB):
        return _hub_location(name)
    match = _REPOSITORY.fullmatch(name)
    if match is None or name.startswith((".", "~")):
        raise CheckpointError(
            f"{name!r} is neither a folder nor a file here nor a hub repository "
            f"(ORGANISATION/NAME or ORGANISATION/NAME@REVISION)"
        )
    return Repository(match["repository"], match["revision"] or "main"), None


def _local_path(name: str) -> Path:
    """The path as given, or that of a model that ships with this package."""
    path = Path(name).expanduser()
    return path if path.exists() else SHIPPED / name


def fetch(location: Location, file_name: str) -> Path:
    """A required file; `hf://ORGANISATION/NAME/FILE` names one of another location."""
    if file_name.startswith(HUB):
        location, inner = _hub_location(file_name)
        if inner is None:
            raise CheckpointError(f"{file_name!r} names a repository, not a file in it")
        file_name = inner
    path = location.find(file_name)
    if path is None:
        raise CheckpointError(f"{location} has no file {file_name!r}")
    return path


def _hub_location(url: str) -> tuple[Repository, str | None]:
    organisation, _, rest = url.removeprefix(HUB).partition("/")
    name, _, file_name = rest.partition("/")
    match = _REPOSITORY.fullmatch(f"{organisation}/{name}")
    if match is None:
        raise CheckpointError(f"{url!r} is not of the form {HUB}ORGANISATION/NAME/FILE")
    return Repository(match["repository"], match["revision"] or "main"), file_name or None
