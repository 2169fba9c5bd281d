"""`nightscribe cast RUN`: the same voices across all recordings of a run."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from omegaconf import MISSING
from rich.table import Column, Table

from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option
from nightscribe.records import path_of
from nightscribe.rendering.document import one_line
from nightscribe.speakers import cast
from nightscribe.storage.lease import LeaseConfig, take
from nightscribe.storage.locations import S3Config
from nightscribe.storage.result_tables import open_run
from nightscribe.storage.store import Store
from nightscribe.storage.text_files import read_text
from nightscribe.storage.voices import (
    CastMember,
    StoredVoice,
    publish_cast,
    read_cast,
    read_voices,
    remove_voices,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CastConfig:
    """Group the speakers of all recordings by voice, and give them names."""

    run: str = option(MISSING, "output of a run with speakers=on: a folder or s3://")
    names: str | None = option(
        None, "CSV file of names, a line for each person, as in voice-0007,Judge Ito"
    )
    forget: str | None = option(
        None, "remove every vector of this person, by name or as in voice-0007"
    )
    same_person: float = option(
        cast.SAME_PERSON, "voices more alike than this, by cosine, are one person", above=0
    )
    max_rows: int = option(50, "most persons shown", minimum=1)
    lease: LeaseConfig = group(LeaseConfig, "one writer at a time to an output")
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)


def cast_run(config: CastConfig) -> int:
    store = open_run(config.run, config.s3)
    voices = read_voices(store)
    if not voices:
        raise ValueError(
            f"{config.run} has no voices: transcribe with speakers=on into another output"
        )
    with take(store, config.lease):
        if config.forget is not None:
            return _forget(store, config.forget)
        grouping = cast.group(np.stack([voice.vector for voice in voices]), config.same_person)
        members = _members(voices, read_cast(store), grouping)
        if config.names is not None:
            members = _with_names(members, _names(Path(config.names)))
        if _by_key(members) != _by_key(read_cast(store)):
            publish_cast(store, members)
    console(soft_wrap=True).print(_table(voices, members, config.max_rows))
    for line in _explained(members, grouping, config):
        console().print(line)
    return 0


def _members(
    voices: Sequence[StoredVoice], before: Sequence[CastMember], found: cast.Grouping
) -> list[CastMember]:
    keys = [voice.key for voice in voices]
    persons = cast.persons(keys, found.labels_V, {one.key: one.person for one in before})
    name_of = {one.person: one.name for one in before}
    return [
        CastMember(*key, person, name_of.get(person), round(float(likeness), 4))
        for key, person, likeness in zip(keys, persons, found.likeness_V, strict=True)
    ]


def _names(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file of names")
    rows = [row for row in csv.reader(read_text(path).splitlines(keepends=True)) if row]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not all(part.strip() for part in row):
            raise ValueError(f"{path} line {number} is not of the form voice-0007,Judge Ito")
    return {person.strip(): name.strip() for person, name in rows}


def _with_names(members: Sequence[CastMember], names: dict[str, str]) -> list[CastMember]:
    unknown = sorted(names.keys() - {member.person for member in members})
    if unknown:
        raise ValueError(f"there is no {unknown[0]} in this cast; see nightscribe cast RUN")
    return [replace(one, name=names.get(one.person, one.name)) for one in members]


def _forget(store: Store, person: str) -> int:
    keys = [one.key for one in read_cast(store) if person in (one.person, one.name)]
    if not keys:
        raise ValueError(f"nobody in this cast is called {person}; see nightscribe cast RUN")
    remove_voices(store, keys)
    console().print(f"voices of {person} removed: {len(keys)}")
    return 0


def _by_key(members: Sequence[CastMember]) -> list[CastMember]:
    return sorted(members, key=lambda member: member.key)


def _table(voices: Sequence[StoredVoice], members: Sequence[CastMember], max_rows: int) -> Table:
    """The persons who speak longest, with a clip of each of them."""
    voice_of = {voice.key: voice for voice in voices}
    own: dict[str, list[CastMember]] = defaultdict(list)
    for member in members:
        own[member.person].append(member)
    order = sorted(own, key=lambda person: (-_seconds(own[person], voice_of), person))
    clip = Column("clip in", overflow="fold")
    table = Table("person", "name", "recordings", "minutes", "likeness", clip, box=None)
    for person in order[:max_rows]:
        best = voice_of[max(own[person], key=lambda one: one.likeness).key]
        recordings = {member.recording_id for member in own[person]}
        minutes = _seconds(own[person], voice_of) / 60
        where = f"{one_line(path_of(best.uri))} at {best.clip_start_s:.1f}-{best.clip_end_s:.1f} s"
        name = own[person][0].name or ""
        least = f"{min(member.likeness for member in own[person]):.2f}"
        table.add_row(person, name, str(len(recordings)), f"{minutes:.1f}", least, where)
    return table


def _explained(
    members: Sequence[CastMember], found: cast.Grouping, config: CastConfig
) -> Iterator[str]:
    """How many there are beside those shown, and what kept persons apart."""
    num_persons = len({member.person for member in members})
    recordings = {member.recording_id for member in members}
    yield f"persons: {num_persons}, recordings: {len(recordings)}"
    if num_persons > config.max_rows:
        yield f"the {config.max_rows} who speak longest are shown; max_rows={num_persons} shows all"
    if found.nearest_other is not None:
        yield (
            f"the two most alike persons have a cosine of {found.nearest_other:.2f}; "
            f"from same_person={config.same_person:g} on they would be one"
        )


def _seconds(members: Sequence[CastMember], voice_of: dict) -> float:
    return sum(voice_of[member.key].duration_s for member in members)


JOB = Job(name="cast", config=CastConfig, run=cast_run, positional=("run",))
