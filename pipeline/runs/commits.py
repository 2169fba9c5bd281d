"""In a transcriber: outcomes of many packets to parts of a few seconds each."""

import asyncio
from collections.abc import Sequence

from nightscribe.runs.progress import StageTime, Stopwatch
from nightscribe.storage.parts import Receipt, commit
from nightscribe.storage.rows import Outcome
from nightscribe.storage.store import Store

# A part of this many shards is written at once.
MAX_OUTCOMES = 512


class Committer:
    """Collects outcomes and commits them together; used in one event loop."""

    def __init__(self, store: Store, interval_s: float, revision: int) -> None:
        self._store, self._interval_s, self._revision = store, interval_s, revision
        self._waiting: list[tuple[Outcome, asyncio.Future[Receipt]]] = []
        self._due: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._watch = Stopwatch()

    async def commit(self, outcome: Outcome) -> Receipt:
        """Return when the outcome would survive any failure."""
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[Receipt] = loop.create_future()
        self._waiting.append((outcome, committed))
        if len(self._waiting) >= MAX_OUTCOMES:
            self.flush()
        elif self._due is None:
            self._due = loop.call_later(self._interval_s, self.flush)
        return await committed

    def flush(self) -> None:
        """Begin to write what was collected."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        some, self._waiting = self._waiting, []
        if some:
            task = asyncio.get_running_loop().create_task(self._write(some))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def take_time(self) -> StageTime:
        return self._watch.take()

    async def _write(self, some: Sequence[tuple[Outcome, asyncio.Future[Receipt]]]) -> None:
        outcomes = [outcome for outcome, _ in some]
        try:
            with self._watch:
                receipts = await asyncio.to_thread(commit, self._store, outcomes, self._revision)
        except Exception as error:
            for _, committed in some:
                _end(committed, error)
            return
        for (_, committed), receipt in zip(some, receipts, strict=True):
            _end(committed, receipt)


def _end(committed: asyncio.Future[Receipt], result: Receipt | Exception) -> None:
    if committed.cancelled():
        return
    if isinstance(result, Exception):
        committed.set_exception(result)
    else:
        committed.set_result(result)
