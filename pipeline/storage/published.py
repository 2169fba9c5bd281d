"""The two tables that people read: transcripts and failures.

Their files are written once and never changed or removed while a run goes on, so a reader's glob
sees whole files at any moment, and every row in one of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import Failure, Transcript
from pipeline.storage.rows import failure_of, failure_row, transcript_of, transcript_row
from pipeline.storage.schema import FAILURES_SCHEMA, TRANSCRIPTS_SCHEMA
from pipeline.storage.store import Store
from pipeline.storage.tables import files, read_rows, side_by_side, write_rows

TRANSCRIPTS_FOLDER = "transcripts"
FAILURES_FOLDER = "failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One row that readers can see."""

    recording_id: str
    num_channels: int | None
    failed_shard: int | None = None


def publish_transcripts(store: Store, transcripts: Sequence[Transcript]) -> str:
    """One more file of the transcripts table; its key."""
    rows = [transcript_row(transcript) for transcript in transcripts]
    return write_rows(store, TRANSCRIPTS_FOLDER, rows, TRANSCRIPTS_SCHEMA)


def publish_failures(store: Store, failures: Sequence[Failure]) -> str:
    """One more file of the failures table; its key."""
    rows = [failure_row(failure) for failure in failures]
    return write_rows(store, FAILURES_FOLDER, rows, FAILURES_SCHEMA)


def published_transcripts(store: Store) -> Iterator[Published]:
    for row in _rows(store, TRANSCRIPTS_FOLDER, ["recording_id", "num_channels"]):
        yield Published(**row)


def published_failures(store: Store) -> Iterator[Published]:
    for row in _rows(store, FAILURES_FOLDER, ["recording_id", "num_channels", "shard"]):
        shard = row.pop("shard")
        yield Published(**row, failed_shard=shard)


def published_uris(store: Store) -> Iterator[str]:
    """The file of every transcript."""
    return (row["uri"] for row in _rows(store, TRANSCRIPTS_FOLDER, ["uri"]))


def read_transcripts(store: Store) -> Iterator[Transcript]:
    """Every transcript that readers can see, a few files in memory at a time."""
    return map(transcript_of, _rows(store, TRANSCRIPTS_FOLDER))


def read_failures(store: Store) -> Iterator[Failure]:
    """Every failure that readers can see."""
    return map(failure_of, _rows(store, FAILURES_FOLDER))


def find_transcripts(store: Store, name: str) -> list[Transcript]:
    """The transcripts of the recordings with that id, or with that text in their file's name."""
    found: list[Transcript] = []
    for entry in files(store, TRANSCRIPTS_FOLDER):
        named = read_rows(store, entry.key, ["recording_id", "uri"])
        is_it = pc.or_(
            pc.equal(named["recording_id"], name), pc.match_substring(named["uri"], name)
        )
        if pc.any(is_it).as_py():
            rows = read_rows(store, entry.key).filter(is_it).to_pylist()
            found += map(transcript_of, rows)
    return sorted(found, key=lambda one: (one.recording.uri, one.recording.channel or 0))


def _rows(store: Store, folder: str, columns: list[str] | None = None) -> Iterator[dict]:
    def read(key: str) -> pa.Table:
        return read_rows(store, key, columns)

    for table in side_by_side(read, (entry.key for entry in files(store, folder))):
        yield from table.to_pylist()
