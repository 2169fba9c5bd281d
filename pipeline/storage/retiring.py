"""Removes rows that newer ones have replaced, once the newer ones are whole and visible.

A row goes when its recording has a transcript of a newer revision, when every channel of a newer
version of its file is in the tables, or when its recording was dropped. Transcripts that were
replaced are kept in `_run/replaced`, for comparisons; their voices are not, and of a recording that
was dropped nothing is kept.

The rows that stay in its file are written to a new file first; the old file is removed after a time
in which readers that listed it before have finished. A process that dies in between leaves rows
twice, which the next call mends and readers tell apart.
"""

import json
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage.current_plan import read_current
from nightscribe.storage.damage import read_json
from nightscribe.storage.errors import StorageError
from nightscribe.storage.generations import Generation, download_rows, generations
from nightscribe.storage.parts import FOLDER as PARTS
from nightscribe.storage.result_tables import (
    FAILURES_FOLDER,
    REPLACED_FOLDER,
    TRANSCRIPTS_FOLDER,
    planned_id,
)
from nightscribe.storage.store import Store
from nightscribe.storage.tables import files, in_parallel, open_table, read_rows, write_table
from nightscribe.storage.voices import VOICES_FOLDER

OF_REVISION = re.compile(rf"{PARTS}/(\d+)/")
RETIRED_KEY = "_run/retired.json"
SPAN_COLUMNS = ["uri", "start_s", "end_s"]
KEY_COLUMNS = ["recording_id", *SPAN_COLUMNS, "channel", "num_channels", "revision"]

Position = tuple[str, int]  # a file and a row in it
Place = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What decides whether a row of a table stays."""

    file: str
    number: int
    num_rows: int  # of its file
    recording_id: str
    place: Place
    revision: int
    num_channels: int
    shard: int | None
    is_transcript: bool

    @property
    def position(self) -> Position:
        return self.file, self.number


def retire(store: Store, check_lease: Callable[[], None], grace_s: float, is_settled: bool) -> int:
    """Remove what was replaced or dropped since the last settled call; the number of rows.

    Settled: everything that the plan asks for has a result, so nothing more will be replaced until
    the next generation. The caller holds the lease.
    """
    made = generations(store)
    through = _settled_through(store)
    recent = [one for one in made if one.number > through]
    num_retired = 0
    if any(one.may_replace for one in recent):
        num_retired = _retire(store, check_lease, grace_s, _dropped(store, made, recent))
    if is_settled and recent:
        _remove_old_parts(store, made[-1].revision)
        document = json.dumps({"through_generation": made[-1].number}) + "\n"
        store.write(RETIRED_KEY, document.encode())
    return num_retired


def _retire(
    store: Store, check_lease: Callable[[], None], grace_s: float, dropped: pa.Array
) -> int:
    rows = list(_candidates(store, dropped))
    going = _going(rows, frozenset(dropped.to_pylist()))
    if not going:
        return 0
    of_tables, of_voices = _by_file(going), _by_file(_voices(store, rows, going))
    check_lease()
    _keep_replaced(store, of_tables, dropped)
    _forget_parts(store, dropped)
    written = {*_write_rests(store, of_voices), *_write_rests(store, of_tables)}
    time.sleep(grace_s)
    check_lease()
    # Voices first: as long as there is an old transcript, the next call finds them.
    for keys in (of_voices, of_tables):
        for _ in in_parallel(store.delete, [key for key in keys if key not in written]):
            pass
    return len(going)


def _by_file(positions: Iterable[Position]) -> dict[str, list[int]]:
    by_file: dict[str, list[int]] = defaultdict(list)
    for file, number in positions:
        by_file[file].append(number)
    return by_file


def _write_rests(store: Store, by_file: Mapping[str, Sequence[int]]) -> Iterator[str | None]:
    """The keys of the files with what stays."""
    return in_parallel(lambda it: _write_rest(store, *it), by_file.items())


def _voices(store: Store, rows: Sequence[_Row], going: set[Position]) -> Iterator[Position]:
    """Where the voices of the transcripts are that go, and do not stay in another file."""
    found = [row for row in rows if row.is_transcript]
    gone = {(row.recording_id, row.revision) for row in found if row.position in going}
    gone -= {(row.recording_id, row.revision) for row in found if row.position not in going}
    keys = [entry.key for entry in files(store, VOICES_FOLDER)]
    columns = ["recording_id", "revision"]
    tables = in_parallel(lambda key: read_rows(store, key, columns), keys)
    for key, table in zip(keys, tables, strict=True):
        names = zip(*(table[name].to_pylist() for name in columns), strict=True)
        yield from ((key, number) for number, name in enumerate(names) if name in gone)


def _forget_parts(store: Store, dropped: pa.Array) -> None:
    """Remove what is committed of recordings that were dropped, with their words and voices."""

    def forget(key: str) -> None:
        is_going = _is_dropped(read_rows(store, key, ["recording_id"])["recording_id"], dropped)
        going = pc.indices_nonzero(is_going).to_pylist()
        if going and _write_rest(store, key, going) != key:
            store.delete(key)

    for _ in in_parallel(
        forget, [entry.key for entry in files(store, PARTS)] if len(dropped) else []
    ):
        pass


def _keep_replaced(store: Store, by_file: Mapping[str, Sequence[int]], dropped: pa.Array) -> None:
    """What a person dropped is not kept, and what stands twice is kept once, by its file's name."""

    def keep(key: str) -> None:
        table = read_rows(store, key)
        rows = table.take(pa.array(sorted(by_file[key]), pa.int64()))
        is_dropped = _is_dropped(rows["recording_id"], dropped)
        rows = rows.filter(pc.invert(is_dropped))
        if len(rows):
            write_table(store, REPLACED_FOLDER, rows)

    keys = [key for key in by_file if key.startswith(f"{TRANSCRIPTS_FOLDER}/")]
    for _ in in_parallel(keep, keys):
        pass


def _is_dropped(recording_ids: pa.ChunkedArray, dropped: pa.Array) -> pa.ChunkedArray:
    """Also the channels of a file that was dropped."""
    sources = pc.list_element(pc.split_pattern(recording_ids, "-"), 0)
    return pc.or_(pc.is_in(recording_ids, dropped), pc.is_in(sources, dropped))


def _write_rest(store: Store, key: str, going: Sequence[int]) -> str | None:
    """A file with the rows that stay; its key."""
    table = read_rows(store, key)
    is_going = pc.is_in(pa.array(range(len(table)), pa.int64()), pa.array(going, pa.int64()))
    rest = table.filter(pc.invert(is_going))
    return write_table(store, key.rpartition("/")[0], rest) if len(rest) else None


def _going(rows: Sequence[_Row], dropped: frozenset[str]) -> set[Position]:
    newest_transcript, newest = _newest_whole(rows)
    newest_of: dict[str, int] = defaultdict(int)
    for row in rows:
        if row.is_transcript:
            newest_of[row.recording_id] = max(newest_of[row.recording_id], row.revision)
    going = set()
    kept: set[tuple[object, ...]] = set()
    # Of a row that stands twice, the copy in the smaller file stays: it was written later.
    for row in sorted(rows, key=lambda row: (row.num_rows, row.file)):
        needs_transcript = row.is_transcript or row.shard is not None
        newer = newest_transcript if needs_transcript else newest
        identity = row.is_transcript, row.recording_id, row.revision, row.shard
        is_old = row.revision < max(newer.get(row.place, 0), newest_of[row.recording_id])
        if is_old or identity in kept or _source(row) in dropped:
            going.add(row.position)
        kept.add(identity)
    return going


def _newest_whole(rows: Sequence[_Row]) -> tuple[dict[Place, int], dict[Place, int]]:
    """By place, the newest revision of which all channels are there: with a transcript, with any.

    A channel counts once, whether it has a transcript or a failure.
    """
    channels: dict[tuple[Place, int], set[str]] = defaultdict(set)
    num_channels: Counter[tuple[Place, int]] = Counter()
    transcribed: set[tuple[Place, int]] = set()
    for row in rows:
        if row.is_transcript or row.shard is None:
            group = row.place, row.revision
            channels[group].add(row.recording_id)
            num_channels[group] = row.num_channels
            transcribed |= {group} if row.is_transcript else set()
    whole = [group for group in channels if len(channels[group]) >= num_channels[group]]
    newest = {place: revision for place, revision in sorted(whole, key=lambda it: it[1])}
    with_words = sorted((group for group in whole if group in transcribed), key=lambda it: it[1])
    return {place: revision for place, revision in with_words}, newest


def _source(row: _Row) -> str:
    return planned_id(row.recording_id, row.num_channels if row.num_channels > 1 else None)


def _candidates(store: Store, dropped: pa.Array) -> Iterator[_Row]:
    """The rows of places with more than one revision or one row twice, and the dropped ones."""
    tables = [
        table
        for folder in (TRANSCRIPTS_FOLDER, FAILURES_FOLDER)
        for table in _key_tables(store, folder)
    ]
    everything = pa.concat_tables(tables)
    groups = everything.group_by(SPAN_COLUMNS).aggregate(
        [
            ("revision", "min"),
            ("revision", "max"),
            ("identity", "count_distinct"),
            ([], "count_all"),
        ]
    )
    is_mixed = pc.or_(
        pc.not_equal(groups["revision_min"], groups["revision_max"]),
        pc.not_equal(groups["identity_count_distinct"], groups["count_all"]),
    )
    uris = pc.unique(groups.filter(is_mixed)["uri"])
    is_dropped = _is_dropped(everything["recording_id"], dropped)
    chosen = everything.filter(pc.or_(pc.is_in(everything["uri"], uris), is_dropped))
    yield from map(_row, chosen.to_pylist())


def _key_tables(store: Store, folder: str) -> Iterator[pa.Table]:
    is_failures = folder == FAILURES_FOLDER
    columns = [*KEY_COLUMNS, *(["shard"] if is_failures else [])]
    keys = [entry.key for entry in files(store, folder)]
    for key, table in zip(
        keys, in_parallel(lambda key: read_rows(store, key, columns), keys), strict=True
    ):
        size = len(table)
        if not is_failures:
            table = table.append_column("shard", pa.nulls(size, pa.int32()))
        yield _with_constants(table.replace_schema_metadata(), key, not is_failures)


def _with_constants(table: pa.Table, key: str, is_transcript: bool) -> pa.Table:
    size = len(table)
    parts = [table["recording_id"], table["revision"], table["shard"]]
    texts = [pc.fill_null(pc.cast(part, pa.string()), "") for part in parts]
    identity = pc.binary_join_element_wise(*texts, str(is_transcript), "/")
    columns = {
        "identity": identity,
        "file": pa.array([key] * size, pa.string()),
        "number": pa.array(range(size), pa.int64()),
        "num_rows": pa.array([size] * size, pa.int64()),
        "is_transcript": pa.array([is_transcript] * size, pa.bool_()),
    }
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _row(row: dict) -> _Row:
    """Channels of a split file are one place; a channel that a manifest names is one of its own."""
    is_split = row["num_channels"] is not None
    place = tuple(row[name] for name in SPAN_COLUMNS)
    return _Row(
        file=row["file"],
        number=row["number"],
        num_rows=row["num_rows"],
        recording_id=row["recording_id"],
        place=(*place, None if is_split else row["channel"]),
        revision=row["revision"],
        num_channels=row["num_channels"] or 1,
        shard=row["shard"],
        is_transcript=row["is_transcript"],
    )


def _dropped(store: Store, made: Iterable[Generation], recent: Iterable[Generation]) -> pa.Array:
    """The ids in the plan whose transcripts are to go, and that did not come back since."""
    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        dropping = [one for one in recent if one.num_by_change.get("dropped")]
        if not dropping:
            return pa.array([], pa.string())
        names = set()
        for one in dropping:
            with download_rows(store, one, Path(folder)).open("rb") as file:
                table = open_table(file).read(["recording_id", "change"], use_threads=False)
            names |= {
                *table.filter(pc.equal(table["change"], "dropped"))["recording_id"].to_pylist()
            }
        for table in read_current(store, Path(folder)).live():
            names -= {*table["recording_id"].to_pylist()}
        return pa.array(sorted(names), pa.string())


def _settled_through(store: Store) -> int:
    try:
        return read_json(store, RETIRED_KEY)["through_generation"]
    except StorageError as error:
        if error.reason == "not_found":
            return 0
        raise


def _remove_old_parts(store: Store, revision: int) -> None:
    """The shards of earlier settings: their transcripts are in the tables or not wanted."""
    found = ((OF_REVISION.match(entry.key), entry.key) for entry in store.entries(f"{PARTS}/"))
    old = [key for match, key in found if match and int(match[1]) < revision]
    for _ in in_parallel(store.delete, old):
        pass
