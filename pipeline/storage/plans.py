"""The plan as a file: written and read a window at a time, however long it is."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.records import PlannedRecording
from nightscribe.storage.rows import planned_of, planned_row
from nightscribe.storage.schema import PLAN_SCHEMA
from nightscribe.storage.tables import open_table, open_writer, read_table

HASHED_BYTES = 2**20


def write_plan(plan: Iterable[PlannedRecording], path: Path) -> None:
    """Write a row group for each window; the same plan is the same bytes."""
    with path.open("wb") as file, open_writer(file, PLAN_SCHEMA) as writer:
        for _, window in groupby(plan, lambda planned: planned.window):
            rows = [planned_row(planned) for planned in window]
            writer.write_table(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA))


def read_plan(file: BinaryIO) -> Iterator[PlannedRecording]:
    for batch in open_table(file).iter_batches(use_threads=False):
        yield from map(planned_of, batch.to_pylist())


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def changes(before: BinaryIO, now: BinaryIO) -> tuple[list[str], list[str]]:
    """The files of the recordings that are only in the first plan, and only in the second."""
    old, new = (read_table(file, ["recording_id", "uri"]) for file in (before, now))
    return _uris_missing_in(new, old), _uris_missing_in(old, new)


def _uris_missing_in(there: pa.Table, rows: pa.Table) -> list[str]:
    is_there = pc.is_in(rows["recording_id"], there["recording_id"].combine_chunks())
    return rows.filter(pc.invert(is_there))["uri"].to_pylist()
