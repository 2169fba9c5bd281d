"""Failures that may have passed, such as a password that expired, are forgotten and tried again.

What is kept of a file is written before the file is removed, and under a name that depends on the
rows alone: whoever dies in between leaves rows twice until the same is done again. The table of
failures is changed last, because it tells what is to be forgotten.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage import parts
from nightscribe.storage.published import FAILURES_FOLDER, TRANSCRIPTS_FOLDER
from nightscribe.storage.store import Store
from nightscribe.storage.tables import files, read_rows, side_by_side, write_table

# By stage; for any other reason the same file fails in the same way again.
PASSING = {
    "fetch": [
        *("busy", "clock", "denied", "io", "no_credentials", "no_space", "timeout", "truncated"),
        "unreachable",
    ],
    "decode": ["killed", "timeout", "unexpected"],
    "transcribe": ["not_transcribed"],
}
RETRIES = ("passing", "all", "none")
TOLD = ["recording_id", "stage", "reason", "shard"]

Mask = Callable[[pa.Table], pa.Array]


def forget_failures(store: Store, which: str) -> int:
    """Let what failed for a passing reason (or for any) count as not done; how many rows that was.

    A transcript with a hole is withdrawn until the shard was tried again; its other shards are
    kept. Call it with the lease in hand and before anything else is read.
    """
    tables = [entry.key for entry in files(store, FAILURES_FOLDER)]
    found = side_by_side(lambda key: read_rows(store, key, TOLD), tables)
    forgotten = [table.filter(_is_forgotten(table, which)) for table in found]
    affected = [key for key, rows in zip(tables, forgotten, strict=True) if len(rows)]
    if not affected:
        return 0
    rows = pa.concat_tables(forgotten)
    holed = rows.filter(pc.is_valid(rows["shard"]))["recording_id"].combine_chunks()
    _forget(store, _keys(store, parts.FOLDER), lambda table: _is_forgotten_part(table, which))
    _forget(store, _keys(store, TRANSCRIPTS_FOLDER), lambda table: _is_of(table, holed))
    _forget(store, affected, lambda table: _is_forgotten(table, which))
    return len(rows)


def _keys(store: Store, folder: str) -> list[str]:
    return [entry.key for entry in files(store, folder)]


def _forget(store: Store, keys: list[str], is_forgotten: Mask) -> None:
    def forget_in(key: str) -> None:
        table = read_rows(store, key)
        mask = is_forgotten(table)
        if pc.any(mask).as_py():
            _keep(store, key, table.filter(pc.invert(mask)))

    for _ in side_by_side(forget_in, keys):
        pass


def _keep(store: Store, key: str, kept: pa.Table) -> None:
    folder = key.rpartition("/")[0]
    if len(kept) == 0 or write_table(store, folder, kept) != key:
        store.delete(key)


def _is_of(table: pa.Table, recording_ids: pa.Array) -> pa.Array:
    return pc.is_in(table["recording_id"], recording_ids)


def _is_forgotten(failures: pa.Table, which: str) -> pa.Array:
    return _is_passing(failures["stage"], failures["reason"], which)


def _is_forgotten_part(table: pa.Table, which: str) -> pa.Array:
    failure = table["failure"].combine_chunks()
    stage, reason = (pc.struct_field(failure, name) for name in ("stage", "reason"))
    return _is_passing(stage, reason, which)


def _is_passing(stage: pa.Array, reason: pa.Array, which: str) -> pa.Array:
    """For each row; where nothing failed, no."""
    if which == "none":
        return pa.array([False] * len(stage))
    if which == "all":
        return pc.is_valid(stage)
    masks = [
        pc.and_(pc.equal(stage, name), pc.is_in(reason, pa.array(reasons)))
        for name, reasons in PASSING.items()
    ]
    return pc.fill_null(pc.or_(pc.or_(*masks[:2]), masks[2]), False)
