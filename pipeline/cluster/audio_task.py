"""On a CPU worker: recordings to shards with their sound, or failures."""

import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import ray

from nightscribe.cluster.attempt_registry import LedgerHandle, here
from nightscribe.cluster.metrics import tell_decoded
from nightscribe.cluster.rows import Cut, CutShard, cut_table, remaining_of
from nightscribe.cluster.stack_dump import answer_with_stacks
from nightscribe.cluster.stage_time import Stopwatch, handed_on
from nightscribe.publishing import Remaining
from nightscribe.records import Failure, Recording

# Yields what a recording is cut into, in order; raises nothing the recording is to blame for.
Reader = Callable[[Recording], Iterator[Cut]]

STAGE = "fetch and decode"
DRAIN_LOOK_S = 1.0


def read_remaining(
    table: pa.Table, make_reader: Callable[[], Reader], ledger: LedgerHandle, max_worker_deaths: int
) -> Iterator[pa.Table]:
    """One row for each shard that is still to be heard and for each failure."""
    answer_with_stacks()
    read, watch = make_reader(), Stopwatch()
    for remaining in remaining_of(table):
        cuts = _read_one(remaining, read, ledger, max_worker_deaths)
        yield from handed_on(map(cut_table, cuts), watch)
        ledger.spend.remote(STAGE, watch.take())


def _read_one(
    remaining: Remaining, read: Reader, ledger: LedgerHandle, max_worker_deaths: int
) -> Iterator[Cut]:
    name = f"file {remaining.recording.recording_id}"
    kills = ray.get(ledger.look_up.remote([name]))
    if kills is None:
        return
    if kills[0] >= max_worker_deaths:
        yield _killer(remaining.recording, kills[0])
        return
    if not ray.get(ledger.begin.remote(name, here())):
        return
    yield from _until_drained(_not_done(read, remaining), ledger)
    ledger.end.remote(name)


def _not_done(read: Reader, remaining: Remaining) -> Iterator[Cut]:
    try:
        for cut in _told(read(remaining.recording)):
            if not _is_done(cut, remaining.done_ids):
                yield cut
    except Exception as error:
        yield Failure(
            recording=remaining.recording,
            stage="decode",
            reason="unexpected",
            detail=f"{type(error).__name__}: {error}",
        )


def _told(cuts: Iterator[Cut]) -> Iterator[Cut]:
    """The same, while whoever watches learns how fast they come."""
    while True:
        began_s = time.monotonic()
        cut = next(cuts, None)
        decoded_s = cut.shard.owned_s if isinstance(cut, CutShard) else 0.0
        tell_decoded(decoded_s, time.monotonic() - began_s)
        if cut is None:
            return
        yield cut


def _is_done(cut: Cut, done_ids: frozenset[str]) -> bool:
    recording = cut.shard.recording if isinstance(cut, CutShard) else cut.recording
    return recording.recording_id in done_ids or (
        isinstance(cut, CutShard) and cut.shard.shard_id in done_ids
    )


def _until_drained(cuts: Iterator[Cut], ledger: LedgerHandle) -> Iterator[Cut]:
    looked_at_s = time.monotonic()
    for cut in cuts:
        yield cut
        if time.monotonic() - looked_at_s > DRAIN_LOOK_S:
            looked_at_s = time.monotonic()
            if ray.get(ledger.look_up.remote([])) is None:
                return


def _killer(recording: Recording, kills: int) -> Failure:
    return Failure(
        recording=recording,
        stage="decode",
        reason="worker_killed",
        detail=f"decoding it ended the worker process {kills} times",
        attempts=kills,
    )
