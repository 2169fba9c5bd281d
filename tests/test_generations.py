"""Nights that add, change, drop and revise, killed at any write: the tables end like one run."""

import itertools
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nightscribe.planning import PlanningConfig, plan
from nightscribe.publishing import Publisher
from nightscribe.records import Failure
from nightscribe.storage.generations import generations
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import commit
from nightscribe.storage.plan_changes import Revision
from nightscribe.storage.result_tables import read_transcripts
from nightscribe.storage.retiring import retire
from nightscribe.storage.run import Night, begin, index_plan, read_plan, write_plan
from nightscribe.storage.tables import files, read_rows
from tests import made_up_run
from tests.storage.dying import survives
from tests.storage.records import failure, heard_all, shards

MAX_KILLS = 4
CALM = random.Random(1)
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


def night(store, folder, found, model, asked, chance, committed=()):
    """One attempt, as the driver makes it, without Ray and lease.

    Some shards may have been `committed` before, with what was made of them.
    """
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
    commit(store, committed, run.revision)
    publisher.restore(asked.retry)
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


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_retry_at_any_kill_shows_the_old_words_until_the_new_are_whole(folder, tmp_path, every):
    """A part of one recording, and of its copy, failed for a reason that has passed since."""
    holed, copy, other = ARCHIVE[2], replace(ARCHIVE[2], uri="s3://archive/copy.mp3"), ARCHIVE[0]
    found, lost = [holed, copy, other], shards(holed, 3)[1]
    broken = failure(holed, lost, stage="transcribe", reason="not_transcribed")
    for num_changes in itertools.count(1, every):
        store = open_store(f"{folder}/{num_changes}", S3Config())
        parts = [broken if one.shard == lost else one for one in heard_all(holed, 3)]
        night(store, tmp_path, found, "m", Night(), random.Random(1), committed=parts)
        assert {one.status for one in read_transcripts(store)} == {"ok", "partial"}
        attempt = partial(
            night,
            folder=tmp_path,
            found=found,
            model="m",
            asked=Night(retry="passing"),
            chance=CALM,
        )

        def look(store=store):
            assert places(store) == {one.uri for one in found}

        ended = survives(attempt, store, num_changes, look)
        attempt(store)
        assert [row["status"] for row in rows(store, "transcripts")] == ["ok"] * 3
        assert not rows(store, "failures")
        num_generations = len(generations(store))
        attempt(store)
        assert num_generations == len(generations(store)) == 2
        if ended:
            break
    assert num_changes > 6


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


# Where, with what chance, and how often a night is killed; S3 takes long to answer.
STORMS = [
    ("disk", 0, MAX_KILLS),
    ("s3", 0, 1),
    *(pytest.param("disk", seed, MAX_KILLS, marks=pytest.mark.slow) for seed in range(1, 6)),
    *(pytest.param("s3", seed, MAX_KILLS, marks=pytest.mark.slow) for seed in range(6)),
]


@pytest.mark.parametrize(("folder", "seed", "num_kills"), STORMS, indirect=["folder"])
def test_the_tables_are_those_of_one_run_whatever_was_killed_and_whenever(
    folder, tmp_path, seed, num_kills
):
    chance = random.Random(seed)
    store = open_store(folder, S3Config())
    for found, model, asked in NIGHTS:
        before, there = places(store), {one.uri for one in found}
        for _ in range(num_kills):
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
