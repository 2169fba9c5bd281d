"""Removes failures whose cause may have passed, such as an expired password, to retry them.

The rows that stay are written before their old file is removed, under a name that depends on the
rows alone: a process that dies in between leaves rows twice until the next call. The table of
failures is changed last, because it decides what is removed.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage import parts
from nightscribe.storage.result_tables import FAILURES_FOLDER, TRANSCRIPTS_FOLDER
from nightscribe.storage.store import Store
from nightscribe.storage.tables import files, in_parallel, read_rows, write_table

# By stage; with any other reason the same file would fail in the same way.
TRANSIENT_REASONS = {
    "fetch": [
        *("busy", "clock", "denied", "io", "no_credentials", "no_space", "timeout", "truncated"),
        "unreachable",
    ],
    "decode": ["killed", "timeout", "unexpected"],
    "transcribe": ["not_transcribed"],
}
RETRIES = ("passing", "all", "none")
KEY_COLUMNS = ["recording_id", "stage", "reason", "shard"]

Mask = Callable[[pa.Table], pa.Array]


def remove_failures(store: Store, which: str) -> int:
    """Remove failures with a transient reason, or all of them; the number of rows removed.

    A transcript with a failed shard is removed until the shard was retried; its other shards are
    kept. The caller holds the lease and has read nothing else before.
    """
    tables = [entry.key for entry in files(store, FAILURES_FOLDER)]
    found = in_parallel(lambda key: read_rows(store, key, KEY_COLUMNS), tables)
    removed = [table.filter(_is_removed(table, which)) for table in found]
    affected = [key for key, rows in zip(tables, removed, strict=True) if len(rows)]
    if not affected:
        return 0
    rows = pa.concat_tables(removed)
    holed = rows.filter(pc.is_valid(rows["shard"]))["recording_id"].combine_chunks()
    _remove(store, _keys(store, parts.FOLDER), lambda table: _is_removed_part(table, which))
    _remove(store, _keys(store, TRANSCRIPTS_FOLDER), lambda table: _is_of(table, holed))
    _remove(store, affected, lambda table: _is_removed(table, which))
    return len(rows)


def _keys(store: Store, folder: str) -> list[str]:
    return [entry.key for entry in files(store, folder)]


def _remove(store: Store, keys: list[str], is_removed: Mask) -> None:
    def remove_in(key: str) -> None:
        table = read_rows(store, key)
        mask = is_removed(table)
        if pc.any(mask).as_py():
            _replace(store, key, table.filter(pc.invert(mask)))

    for _ in in_parallel(remove_in, keys):
        pass


def _replace(store: Store, key: str, rows: pa.Table) -> None:
    folder = key.rpartition("/")[0]
    if len(rows) == 0 or write_table(store, folder, rows) != key:
        store.delete(key)


def _is_of(table: pa.Table, recording_ids: pa.Array) -> pa.Array:
    return pc.is_in(table["recording_id"], recording_ids)


def _is_removed(failures: pa.Table, which: str) -> pa.Array:
    return _is_transient(failures["stage"], failures["reason"], which)


def _is_removed_part(table: pa.Table, which: str) -> pa.Array:
    failure = table["failure"].combine_chunks()
    stage, reason = (pc.struct_field(failure, name) for name in ("stage", "reason"))
    return _is_transient(stage, reason, which)


def _is_transient(stage: pa.Array, reason: pa.Array, which: str) -> pa.Array:
    """One boolean for each row, false where nothing failed."""
    if which == "none":
        return pa.array([False] * len(stage), pa.bool_())
    if which == "all":
        return pc.is_valid(stage)
    masks = [
        pc.and_(pc.equal(stage, name), pc.is_in(reason, pa.array(reasons)))
        for name, reasons in TRANSIENT_REASONS.items()
    ]
    return pc.fill_null(pc.or_(pc.or_(*masks[:2]), masks[2]), False)
