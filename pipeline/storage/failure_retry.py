"""Which failures are tried again: those whose cause may have passed, such as an expired password.

A failure of a whole recording is removed. A recording of which a shard failed is asked for again by
the plan, as a new revision: its transcript stays until the new one is whole.

The rows that stay are written before their old file is removed, under a name that depends on the
rows alone: a process that dies in between leaves rows twice until the next call. The table of
failures is changed last, because it decides what is removed.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.storage import parts
from nightscribe.storage.result_tables import FAILURES_FOLDER, planned_id
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
    "speak": ["not_spoken"],
}
RETRIES = ("passing", "all", "none")
KEY_COLUMNS = ["recording_id", "num_channels", "revision", "stage", "reason", "shard"]

Mask = Callable[[pa.Table], pa.Array]


def holed_recordings(store: Store, which: str) -> dict[str, int]:
    """Recordings in the plan with a failed shard that is to be retried, and its revision."""
    found: dict[str, int] = {}
    for rows in _retried_rows(store, which).values():
        for row in rows.filter(pc.is_valid(rows["shard"])).to_pylist():
            name = planned_id(row["recording_id"], row["num_channels"])
            found[name] = max(found.get(name, 0), row["revision"])
    return found


def remove_failures(store: Store, which: str, asked: Mapping[str, int]) -> int:
    """Remove what keeps failures from being retried; the number of rows of the table that went.

    Of a failed shard only what is committed goes, and only if the plan has `asked` for a later
    revision of its recording. The caller holds the lease and has read nothing else before.
    """
    retried = _retried_rows(store, which)
    num_holes = sum(
        row["revision"] < asked.get(planned_id(row["recording_id"], row["num_channels"]), 0)
        for rows in retried.values()
        for row in rows.filter(pc.is_valid(rows["shard"])).to_pylist()
    )
    whole = {key: pc.sum(pc.is_null(rows["shard"])).as_py() or 0 for key, rows in retried.items()}
    affected = [key for key, count in whole.items() if count]
    if not affected and not num_holes:
        return 0
    _remove(store, _keys(store, parts.FOLDER), lambda table: _is_removed_part(table, which))
    _remove(store, affected, lambda table: _is_removed(table, which))
    return sum(whole.values())


def _retried_rows(store: Store, which: str) -> dict[str, pa.Table]:
    """The failures that are to be retried, by file."""
    if which == "none":
        return {}
    keys = _keys(store, FAILURES_FOLDER)
    found = in_parallel(lambda key: read_rows(store, key, KEY_COLUMNS), keys)
    return {
        key: table.filter(_is_transient(table["stage"], table["reason"], which))
        for key, table in zip(keys, found, strict=True)
    }


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


def _is_removed(failures: pa.Table, which: str) -> pa.Array:
    is_retried = _is_transient(failures["stage"], failures["reason"], which)
    return pc.and_(is_retried, pc.is_null(failures["shard"]))


def _is_removed_part(table: pa.Table, which: str) -> pa.Array:
    failure = table["failure"].combine_chunks()
    stage, reason = (pc.struct_field(failure, name) for name in ("stage", "reason"))
    return _is_transient(stage, reason, which)


def _is_transient(stage: pa.Array, reason: pa.Array, which: str) -> pa.Array:
    """One boolean for each row, false where nothing failed."""
    if which == "all":
        return pc.is_valid(stage)
    masks = [
        pc.and_(pc.equal(stage, name), pc.is_in(reason, pa.array(reasons)))
        for name, reasons in TRANSIENT_REASONS.items()
    ]
    return pc.fill_null(pc.or_(pc.or_(*masks[:2]), masks[2]), False)
