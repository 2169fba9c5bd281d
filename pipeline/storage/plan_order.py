"""Which recordings of a plan come first, where a night may end before all of them are done."""

import json
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

LONGEST, NEWEST = "longest", "newest"
# In the version of a file on disk, after its size.
CHANGED_AT = r"^\d+-(?P<changed_at>\d+)$"


def ordered(tables: Iterable[pa.Table], order: str | None) -> Iterator[pa.Table]:
    """The rows of a plan with the most valuable first; all are in memory unless `order` is None."""
    if order is None:
        yield from tables
        return
    found = list(tables)
    if found:
        rows = pa.concat_tables(found)
        yield rows.take(pa.array(np.argsort(-_values(rows, order), kind="stable")))


def _values(rows: pa.Table, order: str) -> NDArray[np.float64]:
    if order == LONGEST:
        return rows["estimated_s"].to_numpy()
    if order == NEWEST:
        return _newest(rows)
    return _column(rows, order)


def _newest(rows: pa.Table) -> NDArray[np.float64]:
    """The latest night first; within it by the time of change on disk, then the last name."""
    changed_at = pc.struct_field(
        pc.extract_regex(rows["version"].combine_chunks(), CHANGED_AT), "changed_at"
    )
    keys = pa.table(
        {
            "revision": rows["revision"],
            "changed_at": pc.fill_null(pc.cast(changed_at, pa.int64()), 0),
            "uri": rows["uri"],
        }
    )
    newest_first = [(name, "descending") for name in keys.column_names]
    place_of = np.empty(len(rows))
    place_of[pc.sort_indices(keys, newest_first).to_numpy()] = -np.arange(len(rows))
    return place_of


def _column(rows: pa.Table, name: str) -> NDArray[np.float64]:
    """A number of the manifest; rows without one come last."""
    values = [json.loads(extra).get(name) if extra else None for extra in rows["extra"].to_pylist()]
    if all(value is None for value in values):
        raise ValueError(
            f"order={name}: no recording has a column {name} in the manifest; give a number "
            f"column, {LONGEST} or {NEWEST}"
        )
    try:
        return np.array([-np.inf if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        wrong = next(value for value in values if not _is_number(value))
        raise ValueError(f"order={name}: the manifest has {wrong!r} there, not a number") from None


def _is_number(value: object) -> bool:
    try:
        return value is None or float(value) is not None  # type: ignore[arg-type] # tried
    except (TypeError, ValueError):
        return False
