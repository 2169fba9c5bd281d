"""The two tables that people read: transcripts and failures.

Their files are written once and not changed or removed during a run, so a reader's glob sees whole
files at any moment, and each row in one of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.records import Failure, Transcript
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.rows import Row, failure_of, failure_row, transcript_of, transcript_row
from nightscribe.storage.schema import FAILURES_SCHEMA, TRANSCRIPTS_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import File, file_of, files, in_parallel, read_rows

TRANSCRIPTS_FOLDER = "transcripts"
FAILURES_FOLDER = "failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The key of one row of a table."""

    recording_id: str
    num_channels: int | None
    failed_shard: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The final status of one recording, with the reasons."""

    uri: str
    channel: int | None
    status: str  # of its transcript, or failed
    reasons: tuple[str, ...]


def open_run(location: str, s3: S3Config) -> Store:
    """The store of a run that has begun; ValueError if there is none."""
    store = open_store(location, s3)
    if next(files(store, TRANSCRIPTS_FOLDER), None) is None:
        raise ValueError(f"{location}: no run has written here")
    return store


def publish_transcripts(store: Store, transcripts: Sequence[Transcript]) -> str:
    """One more file of the transcripts table; its key."""
    made = transcripts_file(transcripts)
    store.write(*made)
    return made.key


def publish_failures(store: Store, failures: Sequence[Failure]) -> str:
    """One more file of the failures table; its key."""
    made = failures_file(failures)
    store.write(*made)
    return made.key


def transcripts_file(transcripts: Sequence[Transcript]) -> File:
    """What `publish_transcripts` writes."""
    rows = [transcript_row(transcript) for transcript in transcripts]
    return file_of(TRANSCRIPTS_FOLDER, rows, TRANSCRIPTS_SCHEMA)


def failures_file(failures: Sequence[Failure]) -> File:
    """What `publish_failures` writes."""
    rows = [failure_row(failure) for failure in failures]
    return file_of(FAILURES_FOLDER, rows, FAILURES_SCHEMA)


def published_transcripts(store: Store) -> Iterator[Published]:
    for row in _rows(store, TRANSCRIPTS_FOLDER, ["recording_id", "num_channels"]):
        yield Published(**row)


def published_failures(store: Store) -> Iterator[Published]:
    for row in _rows(store, FAILURES_FOLDER, ["recording_id", "num_channels", "shard"]):
        shard = row.pop("shard")
        yield Published(**row, failed_shard=shard)


def endings(store: Store) -> Iterator[Ending]:
    """The status of every recording in the tables; reads only a few columns."""
    about = ["uri", "channel"]
    for row in _rows(store, FAILURES_FOLDER, [*about, "shard", "stage", "reason", "detail"]):
        if row["shard"] is None:  # the rest has a transcript, with its reasons
            reason = f"{row['stage']}, {row['reason']}: {row['detail']}"
            yield Ending(uri=row["uri"], channel=row["channel"], status="failed", reasons=(reason,))
    for row in _rows(store, TRANSCRIPTS_FOLDER, [*about, "status", "reasons"]):
        yield Ending(**row | {"reasons": tuple(row["reasons"])})


def published_uris(store: Store) -> Iterator[str]:
    """The file of every transcript."""
    return (row["uri"] for row in _rows(store, TRANSCRIPTS_FOLDER, ["uri"]))


def read_transcripts(store: Store) -> Iterator[Transcript]:
    """Every transcript in the table, a few files in memory at a time."""
    return map(transcript_of, _rows(store, TRANSCRIPTS_FOLDER))


def read_failures(store: Store) -> Iterator[Failure]:
    """Every failure in the table."""
    return map(failure_of, _rows(store, FAILURES_FOLDER))


def find_transcripts(store: Store, name: str) -> list[Transcript]:
    """The transcripts of recordings with this id, or with this text in their URI."""
    found = map(transcript_of, _named(store, TRANSCRIPTS_FOLDER, name))
    return sorted(found, key=lambda one: (one.recording.uri, one.recording.channel or 0))


def find_failures(store: Store, name: str) -> list[Failure]:
    """The failures of recordings with this id, or with this text in their URI."""
    found = map(failure_of, _named(store, FAILURES_FOLDER, name))
    return sorted(found, key=lambda one: (one.recording.uri, one.recording.channel or 0))


def _named(store: Store, folder: str, name: str) -> Iterator[Row]:
    """Rows by id or by part of the URI; of most files only two columns are read."""
    for entry in files(store, folder):
        names = read_rows(store, entry.key, ["recording_id", "uri"])
        is_match = pc.or_(
            pc.equal(names["recording_id"], name), pc.match_substring(names["uri"], name)
        )
        if pc.any(is_match).as_py():
            yield from read_rows(store, entry.key).filter(is_match).to_pylist()


def _rows(store: Store, folder: str, columns: list[str] | None = None) -> Iterator[dict]:
    def read(key: str) -> pa.Table:
        return read_rows(store, key, columns)

    for table in in_parallel(read, (entry.key for entry in files(store, folder))):
        yield from table.to_pylist()
