"""What a run stores beside its tables: settings, the plan in generations, and logs.

The same command on a later night adds what is new to the plan. A command with other settings is
refused, unless it asks for a revision.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from secrets import token_hex

import pyarrow as pa
import pyarrow.compute as pc

from nightscribe.records import PlannedRecording, Recording
from nightscribe.storage.current_plan import BATCH_ROWS, KEYS, LEFT, CurrentPlan, read_current
from nightscribe.storage.damage import read_json
from nightscribe.storage.errors import StorageError
from nightscribe.storage.generations import (
    AnotherRunError,
    Generation,
    Settings,
    append,
    generations,
    now,
    sha256_of,
)
from nightscribe.storage.parts import FOLDER as PARTS_FOLDER
from nightscribe.storage.plan_changes import MISSING_FILES, Revision, Wanted, write_changes
from nightscribe.storage.result_tables import publish_failures, publish_transcripts
from nightscribe.storage.rows import planned_of, planned_row
from nightscribe.storage.schema import PLAN_SCHEMA, SCHEMA_VERSION
from nightscribe.storage.store import Store
from nightscribe.storage.tables import files, in_parallel, open_table, open_writer

__all__ = ["AnotherRunError", "Settings"]  # and what is defined below

RUN_KEY = "_run/run.json"
PARTS_KEY = "_run/parts.json"  # the revision whose shards the parts hold
LOGS_FOLDER = "_run/logs"
LOGS_INDEX_KEY = f"{LOGS_FOLDER}/index.json"
RUN_ID_HEX_DIGITS = 12
INDEX_COLUMNS = ["recording_id", "estimated_s", "file", "row"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its newest generation leaves it."""

    run_id: str  # of its first settings and plan
    settings: Settings  # everything that changes the words: model, revision, cut, channels
    revision: int = 1  # the generation that began these settings
    generation: int = 1  # the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What a command asks of the run that is there."""

    missing: str = "keep"  # the transcripts of files that are not found any more
    max_dropped_share: float = 0.5
    revision: Revision | None = None  # None: other settings are refused
    retry: str = "none"  # which failures of earlier attempts are retried
    order: str | None = None  # longest, newest or a number column of the manifest, highest first
    # The plan that was compared with the listing; None: the plan file holds all of the listing.
    compared: CurrentPlan | None = None

    def __post_init__(self) -> None:
        if self.missing not in MISSING_FILES:
            raise ValueError(
                f"missing must be one of {', '.join(MISSING_FILES)}, not {self.missing}"
            )


def begin(store: Store, plan: Path, settings: Settings, night: Night | None = None) -> Run:
    """Start a run, resume it, or add a generation to its plan; refuse other settings.

    The caller holds the lease. `plan` holds what was found tonight; afterwards it is the whole plan
    of the run, without the recordings that are gone.
    """
    night = night or Night()
    asked = _as_stored(settings)
    before = night.compared or read_current(store, plan.parent)
    check_settings(store, before.generations, asked, night.revision)
    if not before.number:
        publish_transcripts(store, [])  # so that a reader's glob finds the tables, empty
        publish_failures(store, [])
    _check_unchanged(store, before)
    made = _with_news(store, before, plan, asked, night)
    _forget_other_settings(store, made[-1].revision)
    run = _run_of(made)
    store.write(RUN_KEY, _document(run))
    return run


def _forget_other_settings(store: Store, revision: int) -> None:
    """Remove the shards of earlier settings, once for each revision, at any kill."""
    if revision == 1:
        return
    try:
        if read_json(store, PARTS_KEY)["revision"] == revision:
            return
    except StorageError as error:
        if error.reason != "not_found":
            raise
    for _ in in_parallel(store.delete, [one.key for one in files(store, PARTS_FOLDER)]):
        pass
    store.write(PARTS_KEY, json.dumps({"revision": revision}).encode() + b"\n")


def stored_run(store: Store) -> Run | None:
    """The run that this output belongs to; None if there is none yet."""
    _check_version(store)
    made = generations(store)
    return _run_of(made) if made else None


def check_writable(store: Store) -> None:
    """Raise StorageError where nothing can be written, before a cluster is started for it."""
    key = f"_run/writable-{token_hex(4)}"
    store.write(key, b"")
    store.delete(key)


def check_settings(
    store: Store, made: Iterable[Generation], asked: Settings, revision: Revision | None
) -> None:
    """Refuse other settings without a revision, and a revision without a reason."""
    _check_version(store)
    *_, last = [None, *made]
    if last is None:
        return
    differences = _differences(last.settings, _as_stored(asked))
    if differences and revision is None:
        raise AnotherRunError(
            f"{store.uri('')} belongs to another run: {'; '.join(differences)}. Choose another "
            "output, or transcribe anew here with revise=true"
        )
    if revision is None or differences or revision.where is not None or last.revision > 1:
        return
    raise AnotherRunError(
        f"{store.uri('')}: revise=true has no reason, because every setting is that of the run; "
        "change the model or another setting, or choose transcripts with revise.where"
    )


def _as_stored(settings: Settings) -> Settings:
    return json.loads(json.dumps(dict(settings)))


def _check_version(store: Store) -> None:
    try:
        version = read_json(store, RUN_KEY)["schema_version"]
    except StorageError as error:
        if error.reason == "not_found":
            return
        raise
    if version != SCHEMA_VERSION:
        raise AnotherRunError(
            f"{store.uri(RUN_KEY)}: written with version {version} of the schema, this program "
            f"reads version {SCHEMA_VERSION}; choose another output"
        )


def _differences(there: Settings, asked: Settings) -> list[str]:
    return [
        f"{name} was {there.get(name)!r} and is now {asked.get(name)!r}"
        for name in sorted({*there, *asked})
        if there.get(name) != asked.get(name)
    ]


def _check_unchanged(store: Store, before: CurrentPlan) -> None:
    """The listing was compared with the plan before this run held the lease."""
    made = generations(store)
    if len(made) != len(before.generations):
        raise AnotherRunError(
            f"{store.uri('')}: another run has added generation {made[-1].number} to the plan "
            "meanwhile; run the same command again"
        )


def _with_news(
    store: Store, before: CurrentPlan, plan: Path, settings: Settings, night: Night
) -> list[Generation]:
    """The generations, with one more where the listing or the settings differ; writes the plan.

    That comes first: an order that is not possible must leave no generation.
    """
    made, number = list(before.generations), before.number + 1
    last = made[-1] if made else None
    revision = _wanted_revision(last, settings, night.revision)
    wanted = Wanted(
        number=number,
        missing=night.missing,
        max_dropped_share=night.max_dropped_share,
        revision=revision,
        retry=night.retry,
    )
    rows = plan.parent / f"generation-{number}.parquet"
    changes = write_changes(store, before, plan, rows, wanted)
    is_same = last is not None and not _differences(last.settings, settings)
    if is_same and not changes.num_rows:
        before.write(plan, [one.rows_key for one in made], night.order)
        return made
    after = before.followed_by(rows)
    generation = Generation(
        number=number,
        sha256=sha256_of(rows),
        revision=number if last is None or revision else last.revision,
        settings=settings,
        where=revision.where if revision else last.where if last else None,
        num_by_change=dict(changes.num_by_change),
        num_recordings=after.num_recordings,
        new_s=round(changes.new_s, 1),
        began_at=now(),
    )
    made.append(generation)
    after.write(plan, [one.rows_key for one in made], night.order)
    append(store, generation, rows)
    return made


def _wanted_revision(
    last: Generation | None, settings: Settings, revision: Revision | None
) -> Revision | None:
    """None if the command asks for no revision, or for the one that has begun already."""
    if last is None or revision is None:
        return None
    is_same = not _differences(last.settings, settings)
    return None if is_same and revision.has_begun(last) else revision


def _run_of(made: Iterable[Generation]) -> Run:
    first, *_ = made = list(made)
    canonical = json.dumps([first.sha256, dict(first.settings)], sort_keys=True).encode()
    run_id = hashlib.sha256(canonical).hexdigest()[:RUN_ID_HEX_DIGITS]
    last = made[-1]
    return Run(run_id, last.settings, last.revision, last.number)


def _document(run: Run) -> bytes:
    document = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "settings": dict(run.settings),
        "revision": run.revision,
        "generation": run.generation,
    }
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


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
    """What the driver keeps of a plan: ids, durations, where each row is stored, duplicates."""

    num_recordings: int  # including duplicates
    duplicates: Mapping[str, list[Recording]]  # by the id of the recording they repeat
    # Of the recordings that repeat no other: recording_id, estimated_s, file, row.
    batches: tuple[pa.RecordBatch, ...]
    keys: tuple[str, ...] = ()  # the stored files of the plan, in the order of their numbers
    # The revision of recordings of which an older transcript may be in the tables.
    asked: Mapping[str, int] = field(default_factory=dict)
    left: frozenset[str] = frozenset()  # recordings that were dropped or replaced

    def originals(self) -> Iterator[tuple[str, float]]:
        """The id and the estimated duration of every recording that repeats no other."""
        for batch in self.batches:
            yield from zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True)


def index_plan(path: Path) -> PlanIndex:
    """Index a plan that `begin` has put together, in one pass."""
    duplicates: dict[str, list[Recording]] = {}
    asked: dict[str, int] = {}
    originals, num_recordings = [], 0
    for batch in _plan_batches(path):
        num_recordings += len(batch)
        is_duplicate = pc.is_valid(batch["duplicate_of"])
        for row in batch.filter(is_duplicate).to_pylist():
            duplicates.setdefault(row["duplicate_of"], []).append(planned_of(row).recording)
        originals.append(batch.select(INDEX_COLUMNS).filter(pc.invert(is_duplicate)))
        asked.update(_asked_again(batch))
    return PlanIndex(
        num_recordings=num_recordings,
        duplicates=duplicates,
        batches=tuple(originals),
        keys=tuple(_metadata_of(path, KEYS)),
        left=frozenset(_metadata_of(path, LEFT)),
        asked=asked,
    )


def _metadata_of(path: Path, name: str) -> list[str]:
    """Empty for a plan that `begin` has not put together."""
    with path.open("rb") as file:
        metadata = open_table(file).schema_arrow.metadata or {}
    return json.loads(metadata.get(name.encode(), b"[]"))


def _asked_again(batch: pa.RecordBatch) -> Iterator[tuple[str, int]]:
    """Only of these an older row of the same id may be in the tables."""
    again = batch.filter(pc.not_equal(pc.fill_null(batch["change"], "added"), "added"))
    yield from zip(again["recording_id"].to_pylist(), again["revision"].to_pylist(), strict=True)


def _plan_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        yield from open_table(file).iter_batches(batch_size=BATCH_ROWS, use_threads=False)


def publish_logs(store: Store, files: Mapping[str, Path]) -> list[str]:
    """Upload the logs that are new or have grown since the last call; the keys written.

    The index, written last, holds the hash of every stored log.
    """
    hashes = published_logs(store)
    written = []
    for name, path in sorted(files.items()):
        sha256 = sha256_of(path)
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
        return read_json(store, LOGS_INDEX_KEY)
    except StorageError as error:
        if error.reason == "not_found":
            return {}
        raise
