"""What a night changes in the plan of a run: the rows of its generation.

New files are added. A file with other bytes, or an older version that came back, replaces the
recording that was in its place. Files that are not found are gone or dropped. A revision asks again
for what is there already, and a retry for recordings of which a shard failed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage.current_plan import (
    BATCH_ROWS,
    CurrentPlan,
    Place,
    ids_by_place,
    ids_of,
    places_of,
)
from nightscribe.storage.failure_retry import holed_recordings
from nightscribe.storage.generations import AnotherRunError, Generation
from nightscribe.storage.result_tables import matching_ids
from nightscribe.storage.row_filter import RowFilter
from nightscribe.storage.schema import LEAVING, PLAN_SCHEMA
from nightscribe.storage.store import Store
from nightscribe.storage.tables import open_table, open_writer

MISSING_FILES = ("keep", "drop")
# Below this, a share says little.
FEW_RECORDINGS = 10


@dataclass(frozen=True, slots=True)
class Revision:
    """A wish to transcribe anew what is transcribed already: all of it, or what a filter finds."""

    where: str | None = None

    def __post_init__(self) -> None:
        if self.where is not None:
            RowFilter(self.where)

    def has_begun(self, last: Generation) -> bool:
        """Whether the run has been asked for the same already."""
        return last.revision > 1 and last.where == self.where


@dataclass(slots=True)
class Changes:
    """The number of rows of each kind, and the estimated duration of what is to be transcribed."""

    num_by_change: Counter[str] = field(default_factory=Counter)
    new_s: float = 0.0

    @property
    def num_rows(self) -> int:
        return self.num_by_change.total()

    def add(self, table: pa.Table) -> None:
        self.num_by_change.update(table["change"].to_pylist())
        if table["change"][0].as_py() not in LEAVING:
            self.new_s += pc.sum(table["estimated_s"]).as_py() or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a night wants: its number, what happens to missing files, what it asks for again."""

    number: int
    missing: str
    max_dropped_share: float
    revision: Revision | None
    retry: str  # failures of which kind


def write_changes(
    store: Store, before: CurrentPlan, found: Path, rows: Path, wanted: Wanted
) -> Changes:
    """Write the rows of the next generation; `found` holds new recordings, or the whole listing.

    Raises AnotherRunError, before anything is stored, if too many transcripts would be dropped.
    """
    changes = Changes()
    with rows.open("wb") as file, open_writer(file, PLAN_SCHEMA) as writer:
        for table in _changed_rows(store, before, found, wanted):
            if len(table):
                writer.write_table(table)
                changes.add(table)
    _check_dropped(store, before, changes, wanted.max_dropped_share)
    return changes


def _changed_rows(
    store: Store, before: CurrentPlan, found: Path, wanted: Wanted
) -> Iterator[pa.Table]:
    """New recordings first: nobody has read them yet."""
    news = list(_news(before, found)) if before.number else _tables(found)
    if not before.number:
        yield from (_labelled(table, "added", wanted.number) for table in news)
        return
    missing, gone = list(before.missing()), list(before.gone())
    replaced = ids_by_place([*gone, *missing])
    kept = {name: table for table in gone for name in table["recording_id"].to_pylist()}
    left: set[str] = set()
    for table in filter(len, news):
        for part in _compared(before, table, replaced, kept, wanted.number):
            left |= {*part["replaces"].drop_null().to_pylist(), *part["recording_id"].to_pylist()}
            yield part
    change = "gone" if wanted.missing == "keep" else "dropped"
    for table in missing if wanted.missing == "keep" else [*missing, *gone]:
        yield _marked(_without(table, left), change)
    left |= {name for table in missing for name in table["recording_id"].to_pylist()}
    yield from _again(store, before, wanted, left)


def _news(before: CurrentPlan, found: Path) -> Iterator[pa.Table]:
    """All of it is read before anything is said about what is missing."""
    for table in _tables(found):
        yield table.filter(pa.array(before.mark_seen(ids_of(table))))


def _tables(path: Path) -> Iterator[pa.Table]:
    with path.open("rb") as file:
        for batch in open_table(file).iter_batches(BATCH_ROWS, use_threads=False):
            yield pa.Table.from_batches([batch])


def _compared(
    before: CurrentPlan,
    table: pa.Table,
    replaced: Mapping[Place, str],
    kept: Mapping[str, pa.Table],
    number: int,
) -> Iterator[pa.Table]:
    """New rows as three tables: back as it was, replacing another recording, and added."""
    names = table["recording_id"].to_pylist()
    is_back = pa.array([name in kept for name in names], pa.bool_())
    if pc.any(is_back).as_py():
        yield _back(table.filter(is_back), kept)
    table = table.filter(pc.invert(is_back))
    olds = pa.array([replaced.get(place) for place in places_of(table)], pa.string())
    is_changed = pc.is_valid(olds)
    yield _labelled(table.filter(is_changed), "changed", number, olds.drop_null())
    table = table.filter(pc.invert(is_changed))
    # Its transcript may still be there, if it was dropped or replaced and now is wanted again.
    is_known = pa.array(before.knows(ids_of(table)))
    yield _labelled(table.filter(is_known), "back", number)
    yield _labelled(table.filter(pc.invert(is_known)), "added", number)


def _back(table: pa.Table, kept: Mapping[str, pa.Table]) -> pa.Table:
    """With the revision of the transcript that was kept, which is still the right one."""
    revision_of = {
        name: revision
        for there in {id(one): one for one in kept.values()}.values()
        for name, revision in zip(
            there["recording_id"].to_pylist(), there["revision"].to_pylist(), strict=True
        )
    }
    revisions = [revision_of[name] for name in table["recording_id"].to_pylist()]
    return _with(_marked(table, "back"), "revision", pa.array(revisions, pa.int32()))


def _again(store: Store, before: CurrentPlan, wanted: Wanted, left: set[str]) -> Iterator[pa.Table]:
    """What is there already and transcribed anew, each recording once."""
    if wanted.revision is not None:
        for table in _asked(store, before, wanted.revision, wanted.number):
            yield (rows := _without(table, left))
            left |= {*rows["recording_id"].to_pylist()}
    for table in _retried(store, before, wanted.retry, wanted.number):
        yield _without(table, left)


def _asked(
    store: Store, before: CurrentPlan, revision: Revision, number: int
) -> Iterator[pa.Table]:
    """What a revision asks for again, with the copies; never what a person corrected."""
    wanted = None if revision.where is None else matching_ids(store, RowFilter(revision.where))
    for table in before.live():
        is_asked = pc.not_equal(table["change"], "corrected")
        if wanted is not None:
            is_it = (pc.is_in(table[name], wanted) for name in ("recording_id", "duplicate_of"))
            is_asked = pc.and_(is_asked, pc.or_(*is_it))
        yield _labelled(table.filter(is_asked), "asked", number)


def _retried(store: Store, before: CurrentPlan, retry: str, number: int) -> Iterator[pa.Table]:
    """Recordings of which a shard failed, and their copies; not those that are asked for since."""
    holed = holed_recordings(store, retry)
    names = pa.array(sorted(holed), pa.string())
    for table in before.live() if holed else ():
        is_holed = (pc.is_in(table[name], names) for name in ("recording_id", "duplicate_of"))
        is_machines = pc.not_equal(table["change"], "corrected")
        found = table.filter(pc.and_(is_machines, pc.or_(*is_holed)))
        columns = (found[name].to_pylist() for name in ("recording_id", "duplicate_of", "revision"))
        is_open = [
            holed.get(name, holed.get(original, 0)) >= revision
            for name, original, revision in zip(*columns, strict=True)
        ]
        yield _labelled(found.filter(pa.array(is_open, pa.bool_())), "retried", number)


def _labelled(
    table: pa.Table, change: str, number: int, replaces: pa.Array | None = None
) -> pa.Table:
    """Rows that this generation asks for."""
    revisions = pa.array([number] * len(table), pa.int32())
    return _with(_marked(table, change, replaces), "revision", revisions)


def _marked(table: pa.Table, change: str, replaces: pa.Array | None = None) -> pa.Table:
    nothing = pa.nulls(len(table), pa.string())
    table = _with(table, "change", pa.array([change] * len(table), pa.string()))
    return _with(table, "replaces", nothing if replaces is None else replaces)


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), PLAN_SCHEMA.field(name), values)


def _without(table: pa.Table, names: Iterable[str]) -> pa.Table:
    is_it = pc.is_in(table["recording_id"], pa.array(sorted(names), pa.string()))
    return table.filter(pc.invert(is_it))


def _check_dropped(store: Store, before: CurrentPlan, changes: Changes, max_share: float) -> None:
    num_dropped, num_before = changes.num_by_change["dropped"], before.num_recordings
    if num_before < FEW_RECORDINGS or num_dropped <= max_share * num_before:
        return
    raise AnotherRunError(
        f"{store.uri('')}: missing=drop would remove the transcripts of {num_dropped:,} of "
        f"{num_before:,} recordings, because their files were not found; if that is right, set "
        "max_dropped_share=1"
    )
