"""Nights that add, change, drop and revise, killed at any write: the tables end like one run."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from nightscribe.planning import PlanningConfig, plan
from nightscribe.publishing import Publisher
from nightscribe.records import Failure
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import commit
from nightscribe.storage.plan_changes import Revision
from nightscribe.storage.result_tables import read_transcripts
from nightscribe.storage.retiring import retire
from nightscribe.storage.run import Night, begin, index_plan, read_plan, write_plan
from nightscribe.storage.tables import files, read_rows
from tests import made_up_run
from tests.storage.dying import survives

MAX_KILLS = 4
ARCHIVE = made_up_run.archive()
CHANGED = [replace(one, version=f"{one.version}-new") for one in ARCHIVE[3:12:2]]
# What is there in each night, and what the command asks.
UNCHANGED = [one for one in ARCHIVE if one.uri not in {new.uri for new in CHANGED}]
LAST = [*CHANGED, *ARCHIVE[12:28]]
# What is there in each night, and what the command asks.
NIGHTS = [
    (ARCHIVE[:20], "small", Night()),
    ([*CHANGED, *UNCHANGED], "small", Night()),
    (LAST, "small", Night(missing="drop")),
    (LAST, "large", Night(missing="drop", revision=Revision())),
]


def spoken(outcome, model):
    """The words tell the model, and a failure tells nothing."""
    if isinstance(outcome, Failure):
        return outcome
    words = tuple(replace(word, text=f"{word.text} by {model}") for word in outcome.words)
    return replace(outcome, words=words, model=model)


def night(store, folder, found, model, asked, chance):
    """One attempt, as the driver makes it, without Ray and lease."""
    path = Path(folder) / "plan.parquet"
    write_plan(plan(found, lambda one: one.version, PlanningConfig(window_recordings=16)), path)
    run = begin(store, path, {"model": model}, asked)
    index = index_plan(path)
    publisher = Publisher(
        store,
        lambda: None,
        index.duplicates,
        examine=lambda said: said,
        asked=index.asked,
        revision=run.revision,
        left=index.left,
    )
    publisher.restore("none")
    publisher.publish()
    todo = made_up_run.remaining(publisher, list(read_plan(path)))
    left = [spoken(one, model) for some in todo for one in made_up_run._left(some)]
    chance.shuffle(left)
    while left:
        some, left = left[:4], left[4:]
        publisher.receive(commit(store, some, run.revision))
        if chance.random() < 0.3:
            publisher.publish()
    publisher.publish()
    retire(store, lambda: None, 0.0, is_settled=True)


def rows(store, table):
    """What a plain glob finds, without the revision, which tells the night."""
    found = [
        row | {"revision": None}
        for entry in files(store, table)
        for row in read_rows(store, entry.key).to_pylist()
    ]
    return sorted(found, key=lambda row: (row["recording_id"], row.get("shard") or -1))


def places(store):
    return {one.recording.uri for one in read_transcripts(store)}


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_the_tables_are_those_of_one_run_whatever_was_killed_and_whenever(folder, tmp_path, seed):
    chance = random.Random(seed)
    store = open_store(folder, S3Config())
    for found, model, asked in NIGHTS:
        before, there = places(store), {one.uri for one in found}
        for _ in range(MAX_KILLS):
            moment = int(2 ** chance.uniform(0, 6.5))
            survives(
                lambda it: night(it, tmp_path, found, model, asked, chance),  # noqa: B023
                store,
                moment,
            )
            assert before & there <= places(store)  # nobody misses what was there before
            newest = [one.recording for one in read_transcripts(store)]
            keys = [(one.uri, one.recording_id) for one in newest]
            assert len(keys) == len(set(keys))
        night(store, tmp_path, found, model, asked, chance)
    alone = open_store(f"{folder}/alone", S3Config())
    found, model, _ = NIGHTS[-1]
    night(alone, tmp_path, found, model, Night(), chance)
    for table in ("transcripts", "failures"):
        assert rows(store, table) == rows(alone, table)
