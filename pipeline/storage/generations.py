"""The plan of a run as generations: each night that brings news appends one.

A generation is a file of rows, which is never changed, and a document that names it by its hash.
The document is written last and only if absent: of two writers of one number only one succeeds,
and rows without a document do not count.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from nightscribe.errors import NightscribeError
from nightscribe.storage.damage import read_json
from nightscribe.storage.errors import StorageError
from nightscribe.storage.schema import REPLACING
from nightscribe.storage.store import Entry, Store
from nightscribe.storage.tables import in_parallel

FOLDER = "_run/plan"
DOCUMENT = re.compile(rf"{FOLDER}/(\d+)\.json")
NAME_HEX_DIGITS = 12
HASHED_BYTES = 2**20

Settings = Mapping[str, str | int | float | bool | None]


class AnotherRunError(NightscribeError):
    """The output belongs to a run of something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What one night added to the plan, and the settings that count from then on."""

    number: int
    sha256: str  # of its rows
    revision: int  # the generation that began these settings
    settings: Settings
    where: str | None = None  # which transcripts were asked for again, if not all
    num_by_change: Mapping[str, int] = field(default_factory=dict)
    num_recordings: int = 0  # of the whole plan, after it
    new_s: float = 0.0  # estimated duration of what it asks for
    began_at: str = ""

    @property
    def may_replace(self) -> bool:
        """Whether a transcript that is there may have to go because of it."""
        return any(self.num_by_change.get(change) for change in REPLACING)

    @property
    def rows_key(self) -> str:
        return f"{FOLDER}/{self.number:05d}-{self.sha256[:NAME_HEX_DIGITS]}.parquet"


def generations(store: Store) -> list[Generation]:
    """All generations of a run, in order."""
    keys = [entry.key for entry in store.entries(f"{FOLDER}/") if DOCUMENT.fullmatch(entry.key)]
    return list(in_parallel(lambda key: Generation(**read_json(store, key)), sorted(keys)))


def append(store: Store, generation: Generation, rows: Path) -> None:
    """Add a generation after the last one; afterwards it is never changed."""
    store.upload(rows, generation.rows_key)
    document = json.dumps(asdict(generation), indent=2, sort_keys=True) + "\n"
    key = f"{FOLDER}/{generation.number:05d}.json"
    if not store.write_if_absent(key, document.encode()):
        raise AnotherRunError(
            f"{store.uri('')}: another run has just added generation {generation.number} to the "
            "plan; run the same command again"
        )


def download_rows(store: Store, generation: Generation, folder: Path) -> Path:
    """A local copy of the rows, with the hash that the document names."""
    path = folder / Path(generation.rows_key).name
    if not path.exists():
        entry: Entry = store.stat(generation.rows_key)
        store.download(entry.key, entry.version, path)
    if sha256_of(path) != generation.sha256:
        note = "it has other bytes than were written; restore it from a backup"
        raise StorageError("io", store.uri(generation.rows_key), note)
    return path


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
