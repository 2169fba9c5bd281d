"""Which rows of all generations still count, and what tonight's listing changes about them.

The last row about a recording counts, unless it says that the recording is gone, or a later row
says that another recording replaces it. Only ids are in memory, as one array of bytes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nightscribe.records import Recording
from nightscribe.storage.generations import Generation, download_rows, generations
from nightscribe.storage.plan_order import ordered
from nightscribe.storage.schema import LEAVING, PLACE_COLUMNS, PLAN_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import open_table, open_writer

BATCH_ROWS = 8192
EVENT_COLUMNS = ["recording_id", "change", "replaces"]

CURRENT_SCHEMA = PLAN_SCHEMA.append(pa.field("file", pa.int32())).append(
    pa.field("row", pa.int32())
)
# In the metadata of a plan that was put together: the store keys of its files.
KEYS = "nightscribe.plan_files"
# And the ids of recordings that were dropped or replaced: what is committed of them is not shown.
LEFT = "nightscribe.left"

Place = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Events:
    """What rows say about ids, as parallel arrays."""

    ids_N: NDArray[np.bytes_]
    rows_N: NDArray[np.int64]
    is_live_N: NDArray[np.bool_]
    is_gone_N: NDArray[np.bool_]


class CurrentPlan:
    """The plan as the generations leave it, and what of it was found again."""

    def __init__(self, made: Sequence[Generation], files: Sequence[Path]) -> None:
        self.generations, self._files = tuple(made), tuple(files)
        last = _last_events(self._files)
        self._ids_N, self._rows_N, self._is_live_N = last.ids_N, last.rows_N, last.is_live_N
        self._has_left_N = ~last.is_live_N & ~last.is_gone_N
        num_rows = int(last.rows_N.max()) + 1 if len(last.rows_N) else 0
        self._is_live_R, self._is_gone_R, self._is_seen_R = np.zeros((3, num_rows), dtype=np.bool_)
        self._is_live_R[last.rows_N[last.is_live_N]] = True
        self._is_gone_R[last.rows_N[last.is_gone_N]] = True

    @property
    def number(self) -> int:
        """The number of the last generation, 0 before the first."""
        return self.generations[-1].number if self.generations else 0

    @property
    def num_recordings(self) -> int:
        return int(self._is_live_R.sum())

    def unseen(self, found: Iterable[Recording]) -> Iterator[Recording]:
        """The recordings that the plan does not hold; the others are marked as seen."""
        waiting = iter(found)
        while some := list(islice(waiting, BATCH_ROWS)):
            ids = np.array([one.recording_id for one in some], dtype=np.bytes_)
            for one, is_new in zip(some, self.mark_seen(ids), strict=True):
                if is_new:
                    yield one

    def mark_seen(self, ids_B: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Whether each id is new to the plan."""
        if not len(self._ids_N):
            return np.ones(len(ids_B), dtype=np.bool_)
        places_B = np.minimum(np.searchsorted(self._ids_N, ids_B), len(self._ids_N) - 1)
        is_known_B = (self._ids_N[places_B] == ids_B) & self._is_live_N[places_B]
        self._is_seen_R[self._rows_N[places_B[is_known_B]]] = True
        return ~is_known_B

    def knows(self, ids_B: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Whether any row is about each id, also an old one."""
        return np.isin(ids_B, self._ids_N)

    def followed_by(self, rows: Path) -> "CurrentPlan":
        """The plan with the rows of one more generation."""
        return CurrentPlan(self.generations, [*self._files, rows])

    def live(self) -> Iterator[pa.Table]:
        return self._rows(self._is_live_R)

    def missing(self) -> Iterator[pa.Table]:
        """The recordings that were not found again."""
        return self._rows(self._is_live_R & ~self._is_seen_R)

    def gone(self) -> Iterator[pa.Table]:
        """The recordings that were missing before and whose transcripts are kept."""
        return self._rows(self._is_gone_R)

    def has_terms(self) -> bool:
        """Whether any recording, also an old one, has terms of its own."""
        for path in self._files:
            with path.open("rb") as file:
                terms = open_table(file).read(["terms"], use_threads=False)["terms"]
            if pc.max(pc.list_value_length(terms)).as_py():
                return True
        return False

    def write(self, path: Path, keys: Sequence[str], order: str | None = None) -> None:
        """All rows that count, as one file, and where each is stored, with the keys of the files.

        A copy whose original left becomes an original.
        """
        live = pa.array(self._ids_N[self._is_live_N]).cast(pa.string())
        left = self._ids_N[self._has_left_N].astype(str).tolist()
        schema = CURRENT_SCHEMA.with_metadata({KEYS: json.dumps(keys), LEFT: json.dumps(left)})
        with path.open("wb") as file, open_writer(file, schema) as writer:
            for table in ordered(self._rows(self._is_live_R, is_placed=True), order):
                whole = _without_lost_originals(table, live)
                writer.write_table(whole.replace_schema_metadata(schema.metadata))

    def _rows(self, is_wanted_R: NDArray[np.bool_], is_placed: bool = False) -> Iterator[pa.Table]:
        first = 0
        for number, path in enumerate(self._files):
            first_of_file = first
            for table in _tables(path):
                rows_B = np.arange(first, first + len(table))
                first += len(table)
                is_wanted_B = is_wanted_R[rows_B]
                if is_wanted_B.any():
                    placed = _placed(table, number, rows_B - first_of_file) if is_placed else table
                    yield placed.filter(pa.array(is_wanted_B))


def read_current(store: Store, folder: Path) -> CurrentPlan:
    """The plan of a run, with its files copied into a local folder; empty if there is no run."""
    made = generations(store)
    return CurrentPlan(made, [download_rows(store, one, folder) for one in made])


def places_of(table: pa.Table) -> Iterator[Place]:
    """Where each recording lies: its file, span and channel, whatever the bytes are."""
    return zip(*(table[name].to_pylist() for name in PLACE_COLUMNS), strict=True)


def ids_by_place(tables: Iterable[pa.Table]) -> Mapping[Place, str]:
    return {
        place: recording_id
        for table in tables
        for place, recording_id in zip(
            places_of(table), table["recording_id"].to_pylist(), strict=True
        )
    }


def ids_of(table: pa.Table | pa.RecordBatch) -> NDArray[np.bytes_]:
    return np.array(table["recording_id"].to_pylist(), dtype=np.bytes_)


def _tables(path: Path) -> Iterator[pa.Table]:
    with path.open("rb") as file:
        for batch in open_table(file).iter_batches(BATCH_ROWS, use_threads=False):
            yield pa.Table.from_batches([batch])


def _placed(table: pa.Table, number: int, rows_B: NDArray[np.int64]) -> pa.Table:
    """With the number of the file that holds the rows, and their places in it."""
    files = pa.array([number] * len(table), pa.int32())
    rows = pa.array(rows_B, pa.int32())
    return table.append_column("file", files).append_column("row", rows).cast(CURRENT_SCHEMA)


def _without_lost_originals(table: pa.Table, live: pa.Array) -> pa.Table:
    originals = table["duplicate_of"]
    if originals.null_count == len(table):
        return table
    kept = pc.if_else(pc.is_in(originals, live), originals, pa.scalar(None, pa.string()))
    index = table.schema.get_field_index("duplicate_of")
    return table.set_column(index, PLAN_SCHEMA.field("duplicate_of"), kept)


def _last_events(files: Sequence[Path]) -> _Events:
    """The last event of every id, by id."""
    events = _events(files)
    # Of equal ids a stable sort keeps the later event last.
    order = np.argsort(events.ids_N, kind="stable")
    ids_N = events.ids_N[order]
    is_last_N = np.ones(len(ids_N), dtype=np.bool_)
    is_last_N[:-1] = ids_N[1:] != ids_N[:-1]
    last = order[is_last_N]
    return _Events(
        ids_N[is_last_N], events.rows_N[last], events.is_live_N[last], events.is_gone_N[last]
    )


def _events(files: Sequence[Path]) -> _Events:
    parts = [_events_of(table, first) for first, table in _event_tables(files)]
    empty = (np.zeros(0, np.bytes_), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, bool))
    return _Events(*(np.concatenate(arrays) for arrays in zip(empty, *parts, strict=True)))


def _event_tables(files: Sequence[Path]) -> Iterator[tuple[int, pa.RecordBatch]]:
    first = 0
    for path in files:
        with path.open("rb") as file:
            batches = open_table(file).iter_batches(
                BATCH_ROWS, columns=EVENT_COLUMNS, use_threads=False
            )
            for batch in batches:
                yield first, batch
                first += len(batch)


def _events_of(batch: pa.RecordBatch, first: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """A row that replaces another recording is two events: that one leaves, this one comes."""
    is_replacing_B = np.asarray(pc.is_valid(batch["replaces"]))
    is_leaving_B = np.asarray(pc.is_in(batch["change"], pa.array(LEAVING)))
    is_gone_B = np.asarray(pc.fill_null(pc.equal(batch["change"], "gone"), False))
    rows_B = first + np.arange(len(batch))
    replaced = batch["replaces"].drop_null().to_pylist()
    num_replaced = len(replaced)
    never = np.zeros(num_replaced, dtype=np.bool_)
    return (
        np.concatenate([np.array(replaced, np.bytes_).reshape(num_replaced), ids_of(batch)]),
        np.concatenate([rows_B[is_replacing_B], rows_B]),
        np.concatenate([never, ~is_leaving_B]),
        np.concatenate([never, is_gone_B]),
    )
