"""A whole run without audio, a model or Ray: `python -m tests.made_up_run FOLDER SEED`.

Takes the lease, begins or continues the run, commits shards in an order that depends on the seed
and publishes now and then, as a real run does.
"""

import random
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from nightscribe.planning import PlanningConfig, plan
from nightscribe.publishing import Publisher
from nightscribe.records import PlannedRecording, Recording
from nightscribe.storage.lease import LeaseConfig, take
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import commit
from nightscribe.storage.rows import Outcome
from nightscribe.storage.run import begin, index_plan, read_plan, write_plan
from nightscribe.storage.store import Store
from tests.storage.records import failure, heard, shards

NUM_RECORDINGS = 30
LEASE = LeaseConfig(life_s=60.0)


def archive() -> list[Recording]:
    """Long and short ones, two channels in some, and every eleventh a copy of another."""
    return [
        Recording(
            uri=f"s3://archive/{n:03d}.mp3",
            size_bytes=10_000 * (n % 7 + 1),
            version=f"v{n - 1 if n % 11 == 10 else n}",
        )
        for n in range(NUM_RECORDINGS)
    ]


def outcomes(recording: Recording) -> list[Outcome]:
    """What a model would say: every ninth recording is broken, a shard here and there fails."""
    number = int(recording.uri[-7:-4])
    if number % 9 == 8:
        return [failure(recording)]
    recordings = recording.split(2) if number % 5 == 3 else (recording,)
    return [
        failure(shard.recording, shard, stage="transcribe", reason="killed_its_worker")
        if number % 13 == 5 and shard.index == 1
        else heard(shard, f"{shard.shard_id} said")
        for one in recordings
        for shard in shards(one, number % 4 + 1)
    ]


def run(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    with take(store, LEASE) as lease:
        planned = plan(archive(), lambda one: one.version, PlanningConfig(window_recordings=16))
        with tempfile.NamedTemporaryFile() as file:
            write_plan(planned, Path(file.name))
            begin(store, Path(file.name), {"model": "made-up"})
            index, in_order = index_plan(Path(file.name)), list(read_plan(Path(file.name)))
        publisher = Publisher(store, lease.check, index.duplicates, examine=lambda said: said)
        publisher.restore()
        publisher.publish()
        left = [outcome for todo in remaining(publisher, in_order) for outcome in _left(todo)]
        chance.shuffle(left)
        waiting = iter(left)
        while some := list(islice(waiting, chance.randint(1, 4))):
            publisher.receive(commit(store, some))
            if chance.random() < 0.3:
                publisher.publish()
        publisher.publish()
        assert not list(remaining(publisher, in_order))


class Remaining(NamedTuple):
    """A recording with something left to do, and which of its channels and shards are done."""

    recording: Recording
    done_ids: frozenset[str]


def remaining(publisher: Publisher, plan: Iterable[PlannedRecording]) -> Iterator[Remaining]:
    """What of the plan is still to be done, in its order."""
    done_ids = publisher.done_ids()
    for planned in plan:
        recording = planned.recording
        if planned.duplicate_of is None and not publisher.is_published(recording.recording_id):
            yield Remaining(recording, done_ids.get(recording.source_id, frozenset()))


def _left(todo: Remaining) -> list[Outcome]:
    return [
        outcome
        for outcome in outcomes(todo.recording)
        if outcome.recording.recording_id not in todo.done_ids
        and (outcome.shard is None or outcome.shard.shard_id not in todo.done_ids)
    ]


if __name__ == "__main__":
    run(open_store(sys.argv[1], S3Config()), int(sys.argv[2]))
