"""Failures that may have passed, such as a password that expired, are forgotten and tried again.

What is kept of a file is written before the file is removed, and under a name that depends on the
rows alone: whoever dies in between leaves rows twice until the same is done again.
"""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import parts
from pipeline.storage.published import FAILURES_FOLDER
from pipeline.storage.store import Store
from pipeline.storage.tables import files, read_rows, side_by_side, write_table

STAGE = "fetch"
PASSING = ["busy", "denied", "no_credentials", "no_space", "timeout", "truncated", "unreachable"]


def forget_passing_failures(store: Store) -> int:
    """Let recordings that could not be fetched for a passing reason count as not done.

    Call it with the lease in hand and before anything else is read.
    """
    tables = [entry.key for entry in files(store, FAILURES_FOLDER)]
    found = side_by_side(lambda key: read_rows(store, key, ["stage", "reason"]), tables)
    affected = [key for key, table in zip(tables, found, strict=True) if _num(_is_passing(table))]
    if not affected:
        return 0
    keys = [entry.key for entry in files(store, parts.FOLDER)]
    for _ in side_by_side(lambda key: _forget_in_part(store, key), keys):
        pass
    return sum(_forget_in_table(store, key) for key in affected)


def _forget_in_part(store: Store, key: str) -> None:
    failures = read_rows(store, key, ["failure"])["failure"].combine_chunks()
    if _num(_is_passing(failures)):
        table = read_rows(store, key)
        _keep(store, key, table, _is_passing(table["failure"].combine_chunks()))


def _forget_in_table(store: Store, key: str) -> int:
    table = read_rows(store, key)
    passing = _is_passing(table)
    _keep(store, key, table, passing)
    return _num(passing)


def _keep(store: Store, key: str, table: pa.Table, passing: pa.Array) -> None:
    kept = table.filter(pc.invert(passing))
    folder = key.rpartition("/")[0]
    if len(kept) == 0 or write_table(store, folder, kept) != key:
        store.delete(key)


def _is_passing(failures: pa.Table | pa.StructArray) -> pa.Array:
    """For each row; where nothing failed, no."""
    stage, reason = (_column(failures, name) for name in ("stage", "reason"))
    passing = pc.and_(pc.equal(stage, STAGE), pc.is_in(reason, pa.array(PASSING)))
    return pc.fill_null(passing, False)


def _column(failures: pa.Table | pa.StructArray, name: str) -> pa.Array:
    if isinstance(failures, pa.Table):
        return failures[name].combine_chunks()
    return pc.struct_field(failures, name)


def _num(flags: pa.Array) -> int:
    return pc.sum(flags).as_py() or 0
