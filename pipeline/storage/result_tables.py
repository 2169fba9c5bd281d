"""The two tables that people read: transcripts and failures.

Their files are written once and never changed, so a reader's glob sees whole files at any moment.
While a transcript is replaced, the old and the new one stand side by side: of the rows of one place
the one with the highest revision counts, and every function here yields it alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.errors import NightscribeError
from nightscribe.records import Failure, Transcript
from nightscribe.storage.errors import StorageError
from nightscribe.storage.generations import generations
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.row_filter import CONFIDENCE, FAILED, RowFilter
from nightscribe.storage.rows import Row, failure_of, failure_row, transcript_of, transcript_row
from nightscribe.storage.schema import (
    FAILURES,
    FAILURES_SCHEMA,
    PLACE_COLUMNS,
    TRANSCRIPTS,
    TRANSCRIPTS_SCHEMA,
)
from nightscribe.storage.store import Store
from nightscribe.storage.tables import File, file_of, files, in_parallel, read_rows

TRANSCRIPTS_FOLDER = "transcripts"
FAILURES_FOLDER = "failures"
REPLACED_FOLDER = "_run/replaced"
PUBLISHED_COLUMNS = ["recording_id", "num_channels", "revision"]
MATCHED_COLUMNS = ["recording_id", "num_channels", "duplicate_of"]


class ReplacedError(NightscribeError):
    """A file of a table is gone since it was listed."""

    fault = "environment"

    def __str__(self) -> str:
        return f"{self.args[0]} was replaced while it was being read; run the same command again"


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


def published_transcripts(
    store: Store, asked: Mapping[str, int] | None = None
) -> Iterator[Published]:
    """The keys of the rows that count: not those of which a later revision is `asked` for."""
    yield from _published(store, TRANSCRIPTS_FOLDER, PUBLISHED_COLUMNS, asked or {})


def published_failures(store: Store, asked: Mapping[str, int] | None = None) -> Iterator[Published]:
    yield from _published(store, FAILURES_FOLDER, [*PUBLISHED_COLUMNS, "shard"], asked or {})


def _published(
    store: Store, folder: str, columns: list[str], asked: Mapping[str, int]
) -> Iterator[Published]:
    for row in _all_rows(store, folder, columns):
        name, num_channels = row["recording_id"], row["num_channels"]
        if row["revision"] >= asked.get(planned_id(name, num_channels), 0):
            yield Published(
                recording_id=name, num_channels=num_channels, failed_shard=row.get("shard")
            )


def planned_id(recording_id: str, num_channels: int | None) -> str:
    """The id in the plan: of a file that was split, that of all its channels."""
    return recording_id if num_channels is None else recording_id.partition("-")[0]


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


def replaced_transcripts(store: Store) -> Iterator[Transcript]:
    """Every transcript that a newer one has replaced, still in the table or kept beside the run."""
    keys = [entry.key for entry in files(store, TRANSCRIPTS_FOLDER)]
    losers = _losers(store, TRANSCRIPTS_FOLDER, keys)
    for key, rows in losers.items():
        yield from map(transcript_of, _read_listed(store, key).take(rows).to_pylist())
    yield from map(transcript_of, _all_rows(store, REPLACED_FOLDER, TRANSCRIPTS_SCHEMA.names))


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


def matching_ids(store: Store, where: RowFilter) -> pa.Array:
    """The ids in the plan of the transcripts that a filter finds, and of the recordings they copy.

    To the filter a failed recording is a transcript with status failed.
    """
    columns = [*{*where.columns, *MATCHED_COLUMNS}]
    tables = [*_newest(store, TRANSCRIPTS_FOLDER, columns), *_failed(store)]
    found: set[str] = set()
    for table in tables:
        for row in table.filter(where.mask(table)).select(MATCHED_COLUMNS).to_pylist():
            names = filter(None, (row["recording_id"], row["duplicate_of"]))
            found |= {planned_id(name, row["num_channels"]) for name in names}
    return pa.array(sorted(found), pa.string())


def _failed(store: Store) -> Iterator[pa.Table]:
    columns = [name for name in FAILURES if name in TRANSCRIPTS]
    for table in _newest(store, FAILURES_FOLDER, [*columns, "shard"]):
        whole = table.filter(pc.is_null(table["shard"]))
        given = {name: whole[name] for name in columns}
        given["status"] = pa.array([FAILED] * len(whole), pa.string())
        rest = {
            field.name: pa.nulls(len(whole), field.type)
            for field in TRANSCRIPTS_SCHEMA
            if field.name not in given
        }
        rest[CONFIDENCE] = pa.nulls(len(whole), pa.float64())
        yield pa.table(given | rest)


def _named(store: Store, folder: str, name: str) -> Iterator[Row]:
    """Rows by id or by part of the URI; of most files only a few columns are read."""

    def is_match(table: pa.Table) -> pa.Array:
        return pc.or_(pc.equal(table["recording_id"], name), pc.match_substring(table["uri"], name))

    keys = [entry.key for entry in files(store, folder)]
    losers = _losers(store, folder, keys)
    for key in keys:
        names = _read_listed(store, key, ["recording_id", "uri"])
        if pc.any(is_match(names)).as_py():
            table = _winning(_read_listed(store, key), losers.get(key))
            yield from table.filter(is_match(table)).to_pylist()


def _rows(store: Store, folder: str, columns: list[str] | None = None) -> Iterator[Row]:
    """The rows that count."""
    for table in _newest(store, folder, columns):
        yield from table.to_pylist()


def _all_rows(store: Store, folder: str, columns: list[str]) -> Iterator[Row]:
    keys = (entry.key for entry in files(store, folder))
    for table in in_parallel(lambda key: _read_listed(store, key, columns), keys):
        yield from table.to_pylist()


def _newest(store: Store, folder: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    keys = [entry.key for entry in files(store, folder)]
    losers = _losers(store, folder, keys)

    def read(key: str) -> pa.Table:
        return _winning(_read_listed(store, key, columns), losers.get(key))

    yield from in_parallel(read, keys)


def _read_listed(store: Store, key: str, columns: list[str] | None = None) -> pa.Table:
    """A file that may have been replaced since it was listed."""
    try:
        return read_rows(store, key, columns)
    except StorageError as error:
        if error.reason != "not_found":
            raise
        raise ReplacedError(store.uri(key)) from error


def _winning(table: pa.Table, losers: pa.Array | None) -> pa.Table:
    if losers is None:
        return table
    places = pa.array(range(len(table)), pa.int64())
    return table.filter(pc.invert(pc.is_in(places, losers)))


def _losers(store: Store, folder: str, keys: Sequence[str]) -> Mapping[str, pa.Array]:
    """By file, the rows of which there is a newer one of the same place, or the same one twice.

    Nothing is read of a run in which nothing was ever replaced.
    """
    if not any(one.may_replace for one in generations(store)):
        return {}
    columns = [*PLACE_COLUMNS, "revision", *(["shard"] if folder == FAILURES_FOLDER else [])]
    tables = list(in_parallel(lambda key: _read_listed(store, key, columns), keys))
    if not tables:
        return {}
    numbers = [[number] * len(table) for number, table in enumerate(tables)]
    rows = [range(len(table)) for table in tables]
    everything = pa.concat_tables(tables)
    everything = everything.append_column("file", pa.array(chain.from_iterable(numbers)))
    everything = everything.append_column("row", pa.array(chain.from_iterable(rows), pa.int64()))
    lost = _lost(everything, [name for name in columns if name != "revision"])
    return {
        keys[number]: lost.filter(pc.equal(lost["file"], number))["row"].combine_chunks()
        for number in pc.unique(lost["file"]).to_pylist()
    }


def _lost(rows: pa.Table, place: list[str]) -> pa.Table:
    newest_first = rows.sort_by(
        [("revision", "descending"), ("file", "ascending"), ("row", "ascending")]
    )
    order = pa.array(range(len(rows)), pa.int64())
    newest_first = newest_first.append_column("order", order)
    groups = newest_first.group_by(place).aggregate([("order", "min")])
    return newest_first.filter(pc.invert(pc.is_in(order, groups["order_min"].combine_chunks())))
