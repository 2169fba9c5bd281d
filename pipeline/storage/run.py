"""One run over one plan: what was asked, stored once, and held against what is asked now."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nightscribe.errors import NightscribeError
from nightscribe.records import PlannedRecording
from nightscribe.storage.errors import StorageError
from nightscribe.storage.plans import changes, read_plan, sha256_of
from nightscribe.storage.published import publish_failures, publish_transcripts
from nightscribe.storage.schema import SCHEMA_VERSION
from nightscribe.storage.store import Store

RUN_KEY = "_run/run.json"
PLAN_KEY = "_run/plan.parquet"
RUN_ID_HEX_DIGITS = 12
EXAMPLES = 3

Settings = Mapping[str, str | int | float | bool | None]


class AnotherRunError(NightscribeError):
    """The output belongs to a run of something else."""


@dataclass(frozen=True, slots=True)
class Run:
    """What an output is the result of; the same settings and plan are the same run."""

    settings: Settings  # everything that changes what is said: model, revision, cut, channels
    plan_sha256: str

    @property
    def run_id(self) -> str:
        return hashlib.sha256(self._canonical()).hexdigest()[:RUN_ID_HEX_DIGITS]

    def _canonical(self) -> bytes:
        return json.dumps([self.plan_sha256, dict(self.settings)], sort_keys=True).encode()


def begin(store: Store, plan: Path, settings: Settings) -> Run:
    """Start a run or continue the one that is there; refuse if that is a run of something else.

    Call it with the lease in hand. The plan is written first and the run last, so that a run that
    can be read has a plan.
    """
    asked = Run(json.loads(json.dumps(dict(settings))), sha256_of(plan))
    there = stored_run(store)
    if there is None:
        publish_transcripts(store, [])  # so that a reader's glob finds the tables, still empty
        publish_failures(store, [])
        store.upload(plan, PLAN_KEY)
        store.write(RUN_KEY, _document(asked))
    elif there != asked:
        raise AnotherRunError(_difference(store, there, asked, plan))
    return asked


def stored_run(store: Store) -> Run | None:
    """The run this output belongs to, if there is one yet."""
    try:
        document = json.loads(store.read(RUN_KEY))
    except StorageError as error:
        if error.reason == "not_found":
            return None
        raise
    if document["schema_version"] != SCHEMA_VERSION:
        raise AnotherRunError(
            f"{store.uri(RUN_KEY)}: written with version {document['schema_version']} of the "
            f"schema, this program knows version {SCHEMA_VERSION}"
        )
    return Run(document["settings"], document["plan_sha256"])


def stored_plan(store: Store) -> Iterator[PlannedRecording]:
    """The recordings of the run, in order, a window in memory at a time."""
    with store.open(PLAN_KEY) as file:
        yield from read_plan(file)


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
        "Choose another output, or ask for the same again"
    )


def _difference_of_plans(store: Store, plan: Path) -> str:
    with store.open(PLAN_KEY) as before, plan.open("rb") as now:
        gone, new = changes(before, now)
    if not gone and not new:
        return "the same recordings are described or ordered differently"
    told = [f"{len(uris)} {what} ({_some(uris)})" for what, uris in _named(gone, new) if uris]
    return "of the recordings, " + " and ".join(told)


def _named(gone: list[str], new: list[str]) -> list[tuple[str, list[str]]]:
    changed = sorted({*gone} & {*new})
    return [
        ("changed", changed),
        ("are gone", sorted({*gone} - {*changed})),
        ("are new", sorted({*new} - {*changed})),
    ]


def _some(uris: list[str]) -> str:
    return ", ".join(uris[:EXAMPLES]) + (", ..." if len(uris) > EXAMPLES else "")
