"""On a GPU: one transcriber whose slots stay full across the packets that Ray sends.

Ray sends many packets at once, each to a coroutine of its own, which waits until slots need it;
their shards share the queue of the one engine, and the parts that are committed every few seconds.
A packet is done when its last shard is committed. A dead engine ends the process, so that Ray sends
the same packets to a new worker.
"""

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import pyarrow as pa

from nightscribe.cluster.admission import Admission
from nightscribe.cluster.attempt_registry import RegistryHandle, this_node
from nightscribe.cluster.isolation import IsolationLock
from nightscribe.cluster.metrics import count_transcribed, export_engine_stats
from nightscribe.cluster.packet_plan import SHARDS_PER_SLOT
from nightscribe.cluster.rows import cuts_of, receipts_table
from nightscribe.cluster.stack_dumps import dump_stacks_on_signal
from nightscribe.records import Failure
from nightscribe.runs.allocator import keep_freed_memory
from nightscribe.runs.commits import Committer
from nightscribe.runs.progress import COMMIT_STAGE, LOADING_STAGE, StageTime, Stopwatch
from nightscribe.runs.shard_work import Committed, ShardWork
from nightscribe.runs.shards import ClipTranscriber, Cut, CutShard, ShardTask, name_of
from nightscribe.storage.locations import S3Config, open_store

REPORT_INTERVAL_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """Where a worker commits, and how often."""

    output: str
    s3: S3Config
    interval_s: float
    revision: int = 1  # of the settings of the run


class TranscribingActor:
    """Packets with audio in, receipts of committed words out."""

    def __init__(
        self,
        make_transcriber: Callable[[], ClipTranscriber],
        options: ShardTask,
        registry: RegistryHandle,
        commits: CommitOptions,
        shards_in_flight: int,
        max_worker_deaths: int,
    ) -> None:
        dump_stacks_on_signal()
        keep_freed_memory()
        self._registry, self._watch = registry, Stopwatch()
        with self._watch:
            self._transcriber = make_transcriber()
        registry.add_stage_time.remote(LOADING_STAGE, self._watch.take())
        self._options, self._max_worker_deaths = options, max_worker_deaths
        store = open_store(commits.output, commits.s3)
        self._committer = Committer(store, commits.interval_s, commits.revision)
        # Shards that were in a dead worker: small groups, one at a time, find the one that killed
        # it without condemning its neighbours. After two deaths a shard has the worker alone.
        self._group_size = max(isqrt(2 * shards_in_flight), 1)
        self._suspects = asyncio.Semaphore(1)
        self._isolation = IsolationLock()
        # An engine that sizes itself may have more slots than the plan was made for.
        enough = max(shards_in_flight, SHARDS_PER_SLOT * self.stats.num_slots)
        self._admission = Admission(enough)
        self._node = this_node()
        self._name = f"{os.getpid()} on {self._node}"
        self._reporting: asyncio.Task[None] | None = None
        self._work = ShardWork(self._transcriber, options, self._committer, _exit)
        export_engine_stats(self)

    @property
    def stats(self) -> Any:
        return self._transcriber.stats

    @property
    def num_in_flight(self) -> int:
        return self._work.num_in_flight

    async def __call__(self, table: pa.Table) -> pa.Table:
        self._reporting = self._reporting or asyncio.create_task(self._report_regularly())
        with self._watch:
            done = await self._transcribe_packet(list(cuts_of(table)))
        count_transcribed(*self._work.take_counts())
        outcomes, receipts = [one for one, _ in done], [receipt for _, receipt in done]
        return receipts_table(receipts, outcomes)

    async def _transcribe_packet(self, cuts: list[Cut]) -> list[Committed]:
        names = [name_of(cut) for cut in cuts]
        async with self._admission.of(names):
            return await self._begun(names, cuts)

    async def _begun(self, names: list[str], cuts: list[Cut]) -> list[Committed]:
        deaths = await self._registry.begin.remote(names, self._node)
        if deaths is None:
            done: list[Committed] = []
        elif any(deaths):
            done = await self._retried(cuts, deaths)
        else:
            async with self._isolation.shared():
                done = await self._all_done(cuts)
        # One call for everything, because each costs more than what it does.
        self._registry.end_packet.remote(
            () if deaths and any(deaths) else names,
            *(self._name, self._work.steps(), self._take_times()),
        )
        return done

    def _take_times(self) -> dict[str, StageTime]:
        return {self._options.stage: self._watch.take(), COMMIT_STAGE: self._committer.take_time()}

    async def _retried(self, cuts: list[Cut], deaths: list[int]) -> list[Committed]:
        of_deaths: dict[int, list[Cut]] = defaultdict(list)
        for cut, num_deaths in zip(cuts, deaths, strict=True):
            of_deaths[0 if isinstance(cut, Failure) else num_deaths].append(cut)
        fresh, suspects = of_deaths.pop(0, []), of_deaths.pop(1, [])
        starts, size = range(0, len(suspects), self._group_size), self._group_size
        groups = await asyncio.gather(
            self._shared(fresh),
            *(self._suspected(suspects[start : start + size]) for start in starts),
            *(self._alone(cut, n) for n, some in of_deaths.items() for cut in some),
        )
        return [one for group in groups for one in group]

    async def _suspected(self, cuts: list[Cut]) -> list[Committed]:
        async with self._suspects:
            if not await self._begin_again(cuts):
                return []
            return await self._shared(cuts)

    async def _alone(self, cut: Cut, num_deaths: int) -> list[Committed]:
        if num_deaths >= self._max_worker_deaths:
            assert isinstance(cut, CutShard)
            detail = f"it ended its worker {num_deaths} times"
            failure = self._work.failure(cut, "worker_killed", detail, num_deaths)
            return [(failure, await self._work.committed(failure))]
        async with self._isolation.alone():
            if not await self._begin_again([cut]):
                return []
            return await self._group([cut])

    async def _begin_again(self, cuts: list[Cut]) -> bool:
        names = [name_of(cut) for cut in cuts]
        return await self._registry.begin_again.remote(names, self._node)

    async def _shared(self, cuts: list[Cut]) -> list[Committed]:
        async with self._isolation.shared():
            return await self._group(cuts)

    async def _group(self, cuts: list[Cut]) -> list[Committed]:
        """What has begun together, and ends together in the registry."""
        done = await self._all_done(cuts)
        self._registry.end.remote([name_of(cut) for cut in cuts])
        return done

    async def _all_done(self, cuts: list[Cut]) -> list[Committed]:
        done = await asyncio.gather(*(self._work.done(cut, self._leave) for cut in cuts))
        return [one for one in done if one is not None]

    def _leave(self, cut: Cut) -> None:
        self._admission.leave([name_of(cut)])

    async def _report_regularly(self) -> None:
        """A shard may take hours; the steps of the engine show that it moves."""
        while True:
            if await self._registry.report_engine.remote(self._name, self._work.steps()):
                self._work.drain()
            count_transcribed(*self._work.take_counts())
            await asyncio.sleep(REPORT_INTERVAL_S)


def _exit(error: Exception) -> None:
    log.error("the engine died, this worker exits: %s", error)
    # An exit that no exception handler can turn into a row or a failed task.
    os._exit(1)
