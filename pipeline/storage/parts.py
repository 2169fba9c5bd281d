"""What the workers of a run commit: shards that were heard or failed, a few dozen to a file.

A part appears with one write. Work that is done twice writes the same name, or another part with
some of the same shards: whoever reads takes the first by name.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage.rows import Outcome, outcome_of, outcome_row
from nightscribe.storage.schema import PARTS_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import files, read_rows, side_by_side, write_rows, write_table

FOLDER = "_run/parts"
RECEIPT_COLUMNS = ["recording_id", "shard_index", "is_last"]
# Larger parts are left as they are.
SMALL_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One outcome that is safely stored, and in which part."""

    part: str
    recording_id: str
    shard_index: int | None  # None: the whole recording failed
    is_last: bool | None


def commit(store: Store, outcomes: Sequence[Outcome]) -> list[Receipt]:
    """Store outcomes with one write; once it returns they survive anything."""
    rows = [outcome_row(outcome) for outcome in outcomes]
    part = write_rows(store, FOLDER, rows, PARTS_SCHEMA)
    return [Receipt(part=part, **{name: row[name] for name in RECEIPT_COLUMNS}) for row in rows]


def receipts(store: Store) -> Iterator[Receipt]:
    """Everything committed so far; only three small columns are read."""
    keys = (entry.key for entry in files(store, FOLDER))
    for found in side_by_side(lambda key: _receipts_of(store, key), keys):
        yield from found


def outcomes_of(
    store: Store, part: str, recording_ids: Iterable[str] | None = None
) -> list[Outcome]:
    """The outcomes in one part, or those of some recordings."""
    table = read_rows(store, part)
    if recording_ids is not None:
        wanted = pa.array(sorted(recording_ids), pa.string())
        table = table.filter(pc.is_in(table["recording_id"], wanted))
    return [outcome_of(row) for row in table.to_pylist()]


def merge(store: Store, keys: Sequence[str]) -> str:
    """Put several parts into one and remove them; at any moment every outcome is in some part."""
    tables = side_by_side(lambda key: read_rows(store, key), sorted(keys))
    merged = write_table(store, FOLDER, _first_of_each(pa.concat_tables(tables)))
    for _ in side_by_side(store.delete, [key for key in keys if key != merged]):
        pass
    return merged


def small_parts(store: Store) -> list[str]:
    return [entry.key for entry in files(store, FOLDER) if entry.size_bytes < SMALL_BYTES]


def _receipts_of(store: Store, part: str) -> list[Receipt]:
    rows = read_rows(store, part, RECEIPT_COLUMNS).to_pylist()
    return [Receipt(part=part, **row) for row in rows]


def _first_of_each(table: pa.Table) -> pa.Table:
    """The rows by id, each id once: the first one there is."""
    position = pa.array(range(len(table)), pa.int64())
    ids = table.select(RECEIPT_COLUMNS[:2]).append_column("position", position)
    first = ids.group_by(RECEIPT_COLUMNS[:2]).aggregate([("position", "min")])
    order = [("recording_id", "ascending", "at_start"), ("shard_index", "ascending", "at_start")]
    return table.take(first.sort_by(order)["position_min"])
