"""On a GPU: one transcriber whose slots stay full across the blocks that Ray brings.

Ray hands over a few dozen small blocks at once, each in a coroutine of its own; their shards meet
in the one engine. A dead engine ends the process, so that Ray brings the same blocks to a new one.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from math import isqrt
from typing import Any, Protocol

import pyarrow as pa

from nightscribe.cluster.allocator import keep_freed_memory
from nightscribe.cluster.attempt_registry import EngineTold, LedgerHandle, here
from nightscribe.cluster.isolation import Room
from nightscribe.cluster.metrics import tell_heard, watch
from nightscribe.cluster.rows import Cut, CutShard, cuts_of, outcome_table
from nightscribe.cluster.stack_dump import answer_with_stacks
from nightscribe.cluster.stage_time import Stopwatch
from nightscribe.records import Failure, ShardTranscript
from nightscribe.storage.rows import Outcome

STAGE = "transcribe"
LOADING_STAGE = "load the model"
TELL_S = 10.0

log = logging.getLogger(__name__)


class Listener(Protocol):
    """A transcriber that answers for shards."""

    @property
    def has_died(self) -> bool: ...

    @property
    def tally(self) -> Any:
        """That of its engine, or something like it."""

    def hear(self, cut: CutShard) -> Awaitable[ShardTranscript]: ...


class TranscribingActor:
    """Rows with sound in, rows with words out."""

    def __init__(
        self,
        make_listener: Callable[[], Listener],
        ledger: LedgerHandle,
        rows_in_flight: int,
        max_worker_deaths: int,
    ) -> None:
        answer_with_stacks()
        keep_freed_memory()
        self._ledger, self._watch = ledger, Stopwatch()
        with self._watch:
            self._listener = make_listener()
        ledger.spend.remote(LOADING_STAGE, self._watch.take())
        self._max_kills = max_worker_deaths
        # What was in a process that died: small groups find the culprit without condemning
        # its neighbours, and one that was there twice is heard with nobody else in the process.
        self._suspects = asyncio.Semaphore(max(isqrt(rows_in_flight), 1))
        self._room = Room()
        self._node = here()
        self._name = f"{os.getpid()} on {self._node}"
        self._telling: asyncio.Task[None] | None = None
        self.num_in_flight = 0
        watch(self)

    @property
    def tally(self) -> Any:
        return self._listener.tally

    async def __call__(self, table: pa.Table) -> pa.Table:
        self._telling = self._telling or asyncio.create_task(self._tell_now_and_then())
        with self._watch:
            heard = await self._hear_block(table)
        self._ledger.spend.remote(STAGE, self._watch.take())
        return heard

    async def _hear_block(self, table: pa.Table) -> pa.Table:
        cuts = list(cuts_of(table))
        kills = await self._ledger.look_up.remote([_name(cut) for cut in cuts])
        if kills is None:
            return outcome_table([])
        outcomes = await asyncio.gather(*map(self._outcome, cuts, kills))
        return outcome_table([outcome for outcome in outcomes if outcome is not None])

    async def _tell_now_and_then(self) -> None:
        """A shard may last for hours; its steps are signs of life."""
        while True:
            await asyncio.sleep(TELL_S)
            self._ledger.tell.remote(self._name, self._told())

    def _told(self) -> EngineTold:
        tally = self.tally
        return EngineTold(tally.num_slot_steps, tally.num_live_steps)

    async def _outcome(self, cut: Cut, kills: int) -> Outcome | None:
        if isinstance(cut, Failure):
            return cut
        if kills >= self._max_kills:
            return _failure(cut, "worker_killed", f"it ended its worker {kills} times", kills)
        if kills > 1:
            async with self._room.alone():
                return await self._hear(cut)
        if kills == 1:
            async with self._suspects, self._room.shared():
                return await self._hear(cut)
        async with self._room.shared():
            return await self._hear(cut)

    async def _hear(self, cut: CutShard) -> Outcome | None:
        if not await self._ledger.begin.remote(_name(cut), self._node):
            return None
        self.num_in_flight += 1
        try:
            heard = await self._listener.hear(cut)
            tell_heard(heard)
            return heard
        except Exception as error:
            self._end_if_dead(error)
            return _failure(cut, "not_transcribed", f"{type(error).__name__}: {error}")
        finally:
            self.num_in_flight -= 1
            self._ledger.end.remote(_name(cut), self._name, self._told())

    def _end_if_dead(self, error: Exception) -> None:
        if self._listener.has_died:
            log.error("the engine died, and this process with it: %s", error)
            # An exit that no exception handler can turn into a row or a failed task.
            os._exit(1)


def _name(cut: Cut) -> str:
    return cut.shard.shard_id if isinstance(cut, CutShard) else cut.recording.recording_id


def _failure(cut: CutShard, reason: str, detail: str, attempts: int = 1) -> Failure:
    return Failure(
        recording=cut.shard.recording,
        shard=cut.shard,
        stage="transcribe",
        reason=reason,
        detail=detail,
        attempts=attempts,
    )
