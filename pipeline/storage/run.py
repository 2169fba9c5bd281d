"""What a run stores beside its tables: settings and plan, written once, and logs.

The settings and the plan identify the run: a command that asks for others is refused.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.errors import NightscribeError
from nightscribe.records import PlannedRecording, Recording
from nightscribe.storage.errors import StorageError
from nightscribe.storage.result_tables import publish_failures, publish_transcripts
from nightscribe.storage.rows import planned_of, planned_row
from nightscribe.storage.schema import PLAN_SCHEMA, SCHEMA_VERSION
from nightscribe.storage.store import Store
from nightscribe.storage.tables import open_table, open_writer, read_table

RUN_KEY = "_run/run.json"
PLAN_KEY = "_run/plan.parquet"
LOGS_FOLDER = "_run/logs"
LOGS_INDEX_KEY = f"{LOGS_FOLDER}/index.json"
RUN_ID_HEX_DIGITS = 12
HASHED_BYTES = 2**20
BATCH_ROWS = 8192
EXAMPLES = 3

Settings = Mapping[str, str | int | float | bool | None]


class AnotherRunError(NightscribeError):
    """The output belongs to a run of something else."""


@dataclass(frozen=True, slots=True)
class Run:
    """What makes a run: the same settings and the same plan are the same run."""

    settings: Settings  # everything that changes the words: model, revision, cut, channels
    plan_sha256: str

    @property
    def run_id(self) -> str:
        return hashlib.sha256(self._canonical()).hexdigest()[:RUN_ID_HEX_DIGITS]

    def _canonical(self) -> bytes:
        return json.dumps([self.plan_sha256, dict(self.settings)], sort_keys=True).encode()


def begin(store: Store, plan: Path, settings: Settings) -> Run:
    """Start a run or resume the one that is there; refuse if that one is a different run.

    The caller holds the lease. The plan is written first and the run last, so that a run that can
    be read has a plan. Afterwards the stored plan has the same bytes as the file `plan`.
    """
    asked = Run(json.loads(json.dumps(dict(settings))), _sha256_of(plan))
    there = stored_run(store)
    if there is None:
        publish_transcripts(store, [])  # so that a reader's glob finds the tables, empty
        publish_failures(store, [])
        store.upload(plan, PLAN_KEY)
        store.write(RUN_KEY, _document(asked))
    elif there != asked:
        raise AnotherRunError(_difference(store, there, asked, plan))
    return asked


def stored_run(store: Store) -> Run | None:
    """The run that this output belongs to; None if there is none yet."""
    try:
        document = json.loads(store.read(RUN_KEY))
    except StorageError as error:
        if error.reason == "not_found":
            return None
        raise
    if document["schema_version"] != SCHEMA_VERSION:
        raise AnotherRunError(
            f"{store.uri(RUN_KEY)}: written with version {document['schema_version']} of the "
            f"schema, this program reads version {SCHEMA_VERSION}; choose another output"
        )
    return Run(document["settings"], document["plan_sha256"])


def _document(run: Run) -> bytes:
    document = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "settings": dict(run.settings),
        "plan_sha256": run.plan_sha256,
    }
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _difference(store: Store, there: Run, asked: Run, plan: Path) -> str:
    names = sorted({*there.settings, *asked.settings})
    differences = [
        f"{name} was {there.settings.get(name)!r} and is now {asked.settings.get(name)!r}"
        for name in names
        if there.settings.get(name) != asked.settings.get(name)
    ]
    if there.plan_sha256 != asked.plan_sha256:
        differences.append(_difference_of_plans(store, plan))
    return (
        f"{store.uri('')} belongs to another run: {'; '.join(differences)}. "
        "Choose another output, or run the same command again"
    )


def _difference_of_plans(store: Store, plan: Path) -> str:
    with store.open(PLAN_KEY) as before, plan.open("rb") as now:
        gone, new = _plan_changes(before, now)
    if not gone and not new:
        return "the same recordings are described or ordered differently"
    parts = [f"{len(uris)} {what} ({_some(uris)})" for what, uris in _named(gone, new) if uris]
    return "of the recordings, " + " and ".join(parts)


def _named(gone: list[str], new: list[str]) -> list[tuple[str, list[str]]]:
    changed = sorted({*gone} & {*new})
    return [
        ("changed", changed),
        ("are gone", sorted({*gone} - {*changed})),
        ("are new", sorted({*new} - {*changed})),
    ]


def _some(uris: list[str]) -> str:
    return ", ".join(uris[:EXAMPLES]) + (", ..." if len(uris) > EXAMPLES else "")


def write_plan(plan: Iterable[PlannedRecording], path: Path) -> None:
    """Write a row group for each window; the same plan is the same bytes."""
    with path.open("wb") as file, open_writer(file, PLAN_SCHEMA) as writer:
        for _, window in groupby(plan, lambda planned: planned.window):
            rows = [planned_row(planned) for planned in window]
            writer.write_table(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA))


def read_plan(path: Path) -> Iterator[PlannedRecording]:
    """The recordings of a plan in order, a few thousand in memory at a time."""
    for batch in _plan_batches(path):
        yield from map(planned_of, batch.to_pylist())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanIndex:
    """What the driver keeps of a plan: ids, durations and the duplicates."""

    num_recordings: int  # including duplicates
    duplicates: Mapping[str, list[Recording]]  # by the id of the recording they repeat
    # Of the recordings that repeat no other: id, estimated duration, and the place in the plan.
    batches: tuple[pa.RecordBatch, ...]
    keys: tuple[str, ...]  # of the stored files of the plan, by their number in `batches`

    def originals(self) -> Iterator[tuple[str, float]]:
        """The id and the estimated duration of every recording that repeats no other."""
        for batch in self.batches:
            yield from zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True)


def index_plan(path: Path) -> PlanIndex:
    """Index a plan in one pass, which makes Python objects of the duplicates alone."""
    duplicates: dict[str, list[Recording]] = {}
    originals, num_recordings = [], 0
    for batch in _plan_batches(path):
        num_recordings += len(batch)
        is_duplicate = pc.is_valid(batch["duplicate_of"])
        for row in batch.filter(is_duplicate).to_pylist():
            duplicates.setdefault(row["duplicate_of"], []).append(planned_of(row).recording)
        first_row = num_recordings - len(batch)
        columns = batch.select(["recording_id", "estimated_s"])
        columns = columns.append_column("file", pa.array([0] * len(batch), pa.int32()))
        rows = pa.array(range(first_row, num_recordings), pa.int64())
        columns = columns.append_column("row", rows)
        originals.append(columns.filter(pc.invert(is_duplicate)))
    return PlanIndex(
        num_recordings=num_recordings,
        duplicates=duplicates,
        batches=tuple(originals),
        keys=(PLAN_KEY,),
    )


def _plan_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        yield from open_table(file).iter_batches(batch_size=BATCH_ROWS, use_threads=False)


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _plan_changes(before: BinaryIO, now: BinaryIO) -> tuple[list[str], list[str]]:
    """The files of the recordings that are only in the first plan, and only in the second."""
    old, new = (read_table(file, ["recording_id", "uri"]) for file in (before, now))
    return _uris_missing_in(new, old), _uris_missing_in(old, new)


def _uris_missing_in(there: pa.Table, rows: pa.Table) -> list[str]:
    is_there = pc.is_in(rows["recording_id"], there["recording_id"].combine_chunks())
    return rows.filter(pc.invert(is_there))["uri"].to_pylist()


def publish_logs(store: Store, files: Mapping[str, Path]) -> list[str]:
    """Upload the logs that are new or have grown since the last call; the keys written.

    The index, written last, holds the hash of every stored log.
    """
    hashes = published_logs(store)
    written = []
    for name, path in sorted(files.items()):
        sha256 = _sha256_of(path)
        if hashes.get(name) != sha256:
            store.upload(path, f"{LOGS_FOLDER}/{name}")
            hashes[name] = sha256
            written.append(f"{LOGS_FOLDER}/{name}")
    if written:
        document = json.dumps(hashes, indent=2, sort_keys=True) + "\n"
        store.write(LOGS_INDEX_KEY, document.encode())
    return written


def published_logs(store: Store) -> dict[str, str]:
    """The hash of every stored log by its name."""
    try:
        return json.loads(store.read(LOGS_INDEX_KEY))
    except StorageError as error:
        if error.reason == "not_found":
            return {}
        raise
