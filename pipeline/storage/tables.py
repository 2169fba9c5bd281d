"""Parquet files: the same rows give the same bytes, whichever process writes them."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import BinaryIO, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from nightscribe.storage.damage import damage_named
from nightscribe.storage.rows import Row
from nightscribe.storage.store import Entry, Store

ROW_GROUP_ROWS = 4096
WRITING = {"compression": "zstd", "compression_level": 6, "write_page_checksum": True}
READERS = 16
NAME_HEX_DIGITS = 20
SORTED = ("recording_id",)

Given = TypeVar("Given")
Got = TypeVar("Got")


class File(NamedTuple):
    """A file of a table before it is written."""

    key: str
    data: bytes


def write_rows(store: Store, folder: str, rows: Sequence[Row], schema: pa.Schema) -> str:
    """Write rows, sorted, as one file named after their ids; its key."""
    made = file_of(folder, rows, schema)
    store.write(*made)
    return made.key


def file_of(folder: str, rows: Sequence[Row], schema: pa.Schema) -> File:
    """What `write_rows` writes."""
    by_id = sorted(rows, key=_id)
    key = f"{folder}/{_name(by_id)}.parquet"
    return File(key, parquet_bytes(pa.Table.from_pylist(by_id, schema=schema), SORTED))


def write_table(store: Store, folder: str, table: pa.Table) -> str:
    """Like `write_rows`, for a table that is already sorted."""
    ids = table.select([name for name in ID_COLUMNS if name in table.column_names])
    key = f"{folder}/{_name(ids.to_pylist())}.parquet"
    store.write(key, parquet_bytes(table, SORTED))
    return key


def read_rows(store: Store, key: str, columns: list[str] | None = None) -> pa.Table:
    """The table of one file in one request, or only some of its columns."""
    if columns is None:
        data = io.BytesIO(store.read(key))
        with damage_named(store.uri(key)):
            return read_table(data)
    with store.open(key) as file, damage_named(store.uri(key)):
        return read_table(file, columns)


def read_table(file: BinaryIO, columns: list[str] | None = None) -> pa.Table:
    return open_table(file).read(columns=columns, use_threads=False)


def open_table(file: BinaryIO) -> pq.ParquetFile:
    """A Parquet file that no other thread uses, if it is read with `use_threads=False`.

    A thread of Arrow that still holds Python's file when the program ends would abort it.
    """
    return pq.ParquetFile(file, pre_buffer=False)


def files(store: Store, folder: str) -> Iterator[Entry]:
    """The Parquet files of a folder that hold anything."""
    return (entry for entry in store.entries(f"{folder}/") if entry.key.endswith(".parquet"))


def in_parallel(action: Callable[[Given], Got], given: Iterable[Given]) -> Iterator[Got]:
    """The results in order, with a few requests in parallel."""
    waiting = iter(given)
    with ThreadPoolExecutor(READERS) as threads:
        while some := list(islice(waiting, 4 * READERS)):
            yield from threads.map(action, some)


def open_writer(file: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of row groups whose bytes depend on the rows alone."""
    return pq.ParquetWriter(file, schema, **WRITING)


ID_COLUMNS = ("recording_id", "shard_index", "shard", "revision")


def _id(row: Row) -> tuple[str, int]:
    """Rows without a shard, about whole recordings, come first."""
    shard = row["shard_index"] if "shard_index" in row else row.get("shard")
    return row["recording_id"], -1 if shard is None else shard


def _name(rows: Iterable[Row]) -> str:
    ids = [(*_id(row), row.get("revision", 1)) for row in rows]
    return hashlib.sha256(repr(ids).encode()).hexdigest()[:NAME_HEX_DIGITS]


def parquet_bytes(table: pa.Table, sorted_by: Sequence[str] = ()) -> bytes:
    """The table as one file, with the columns that it is sorted by in its metadata."""
    sink = pa.BufferOutputStream()
    sorting = [pq.SortingColumn(table.schema.get_field_index(name)) for name in sorted_by]
    pq.write_table(
        table, sink, row_group_size=ROW_GROUP_ROWS, sorting_columns=sorting or None, **WRITING
    )
    return sink.getvalue().to_pybytes()
