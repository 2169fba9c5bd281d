"""What the workers of a run commit: transcripts and failures of shards, a few dozen per file.

A part is committed atomically, with one write. Work that is done twice writes the same name, or
another part with some of the same shards: readers take the first by name.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage.errors import StorageError
from nightscribe.storage.rows import Outcome, outcome_of, outcome_row
from nightscribe.storage.schema import PARTS_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import files, in_parallel, read_rows, write_rows, write_table

FOLDER = "_run/parts"
RECEIPT_COLUMNS = ["recording_id", "shard_index", "is_last"]
# Larger parts are not merged.
SMALL_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One committed outcome, and the part that holds it."""

    part: str
    recording_id: str
    shard_index: int | None  # None: the whole recording failed
    is_last: bool | None


def folder_of(revision: int) -> str:
    """The parts of a run with the same settings; others do not count."""
    return f"{FOLDER}/{revision:05d}"


def commit(store: Store, outcomes: Sequence[Outcome], revision: int = 1) -> list[Receipt]:
    """Store outcomes with one write; after it returns they survive any failure."""
    rows = [outcome_row(outcome) for outcome in outcomes]
    part = write_rows(store, folder_of(revision), rows, PARTS_SCHEMA)
    return [Receipt(part=part, **{name: row[name] for name in RECEIPT_COLUMNS}) for row in rows]


def receipts(store: Store, revision: int = 1) -> Iterator[Receipt]:
    """Everything committed so far; only three small columns are read.

    A worker of an attempt that has died may still be merging parts: what it removes is in a part
    that was written before, which is then found by listing again.
    """
    seen: set[str] = set()
    is_complete = False
    while not is_complete:
        entries = files(store, folder_of(revision))
        keys = [entry.key for entry in entries if entry.key not in seen]
        seen.update(keys)
        is_complete = True
        for found in in_parallel(lambda key: _receipts_if_there(store, key), keys):
            is_complete &= found is not None
            yield from found or ()


def outcomes_of(
    store: Store, part: str, recording_ids: Iterable[str] | None = None
) -> list[Outcome]:
    """The outcomes in one part, or only those of some recordings."""
    table = read_rows(store, part)
    if recording_ids is not None:
        wanted = pa.array(sorted(recording_ids), pa.string())
        table = table.filter(pc.is_in(table["recording_id"], wanted))
    return [outcome_of(row) for row in table.to_pylist()]


def merge(store: Store, keys: Sequence[str]) -> str:
    """Merge parts into one and remove them; at any moment every outcome is in some part."""
    tables = in_parallel(lambda key: read_rows(store, key), sorted(keys))
    folder = keys[0].rpartition("/")[0]
    merged = write_table(store, folder, _first_of_each(pa.concat_tables(tables)))
    for _ in in_parallel(store.delete, [key for key in keys if key != merged]):
        pass
    return merged


def small_parts(store: Store, revision: int = 1) -> list[str]:
    entries = files(store, folder_of(revision))
    return [entry.key for entry in entries if entry.size_bytes < SMALL_BYTES]


def _receipts_if_there(store: Store, part: str) -> list[Receipt] | None:
    try:
        return _receipts_of(store, part)
    except StorageError as error:
        if error.reason == "not_found":
            return None
        raise


def _receipts_of(store: Store, part: str) -> list[Receipt]:
    rows = read_rows(store, part, RECEIPT_COLUMNS).to_pylist()
    return [Receipt(part=part, **row) for row in rows]


def _first_of_each(table: pa.Table) -> pa.Table:
    """The rows sorted by id, the first row of each id."""
    position = pa.array(range(len(table)), pa.int64())
    ids = table.select(RECEIPT_COLUMNS[:2]).append_column("position", position)
    first = ids.group_by(RECEIPT_COLUMNS[:2]).aggregate([("position", "min")])
    order = [("recording_id", "ascending", "at_start"), ("shard_index", "ascending", "at_start")]
    return table.take(first.sort_by(order)["position_min"])
