"""Threads that read recordings, and one event loop that transcribes and commits their shards.

Nothing waits for these threads when the process ends: the main thread decides when that is.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from nightscribe.records import Recording
from nightscribe.runs.allocator import keep_freed_memory
from nightscribe.runs.attempt import RunBrokenError
from nightscribe.runs.commits import Committer
from nightscribe.runs.progress import (
    COMMIT_STAGE,
    LOADING_STAGE,
    READING_STAGE,
    StageTime,
    Stopwatch,
    timed,
)
from nightscribe.runs.shard_work import Committed, EngineSteps, ShardWork
from nightscribe.runs.shards import ClipTranscriber, Cut, Stages, cuts_left, name_of

TICK_S = 0.5
# Sound of at most this many shards is in memory: of 60 s each, less than 200 MB.
SHARDS_IN_FLIGHT = 64

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class ToRead:
    """A recording, and which of its channels and shards are committed."""

    recording: Recording
    done_ids: frozenset[str]


class LocalWorker:
    """Recordings in, committed outcomes out."""

    def __init__(
        self,
        stages: Stages,
        to_read: Iterator[ToRead],
        make_committer: Callable[[], Committer],
        num_readers: int,
    ) -> None:
        self._stages, self._to_read, self._num_readers = stages, to_read, num_readers
        self._make_committer = make_committer
        self._lock = threading.Lock()  # guards what is to be read, and the times
        self._room = threading.Semaphore(SHARDS_IN_FLIGHT)
        self._is_draining = threading.Event()
        self._arrived: SimpleQueue[Committed | BaseException | None] = SimpleQueue()
        self._open: dict[str, None] = {}
        self._loop: asyncio.AbstractEventLoop
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_loaded = asyncio.Event()
        self._work: ShardWork | None = None
        self._committer: Committer | None = None
        self._watch, self._times = Stopwatch(), dict[str, StageTime]()

    def committed(self) -> Iterator[Committed | None]:
        """Every outcome once it is committed, and None after every tick without one."""
        self._loop = asyncio.new_event_loop()
        _in_thread(self._run, "nightscribe-local")
        while True:
            try:
                one = self._arrived.get(timeout=TICK_S)
            except Empty:
                yield None
                continue
            if one is None:
                return
            if isinstance(one, BaseException):
                raise one
            yield one

    def drain(self) -> None:
        """Let what has begun end, and begin nothing else."""
        self._is_draining.set()
        with suppress(RuntimeError):  # everything has ended already
            self._loop.call_soon_threadsafe(self._drain_work)

    def steps(self) -> EngineSteps:
        return EngineSteps(0, 0) if self._work is None else self._work.steps()

    def open_names(self) -> list[str]:
        """Shards and files that have begun and not ended, oldest first."""
        return list(self._open)

    def stage_times(self) -> dict[str, StageTime]:
        """Of all threads, with the last shard that has ended."""
        with self._lock:
            return dict(self._times)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._all())
            self._arrived.put(None)
        except BaseException as error:
            self._arrived.put(error)
        finally:
            self._loop.close()

    async def _all(self) -> None:
        readers = [
            asyncio.ensure_future(_in_loop(self._read, "nightscribe-read"))
            for _ in range(self._num_readers)
        ]
        transcriber = await _in_loop(self._load, "nightscribe-load")
        self._committer = self._make_committer()
        self._work = ShardWork(transcriber, self._stages.shards, self._committer, _end)
        if self._is_draining.is_set():
            self._work.drain()
        self._is_loaded.set()
        await asyncio.gather(*readers)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _load(self) -> ClipTranscriber:
        keep_freed_memory()
        watch = Stopwatch()
        with watch:
            transcriber = self._stages.make_transcriber()
        self._add_time(LOADING_STAGE, watch.take())
        self._watch.take()
        return transcriber

    def _read(self) -> None:
        watch = Stopwatch()
        while not self._is_draining.is_set() and (one := self._next()) is not None:
            name = f"file {one.recording.recording_id}"
            self._open[name] = None
            cuts = cuts_left(self._stages.read, one.recording, one.done_ids)
            for cut in timed(cuts, watch):
                self._room.acquire()
                self._loop.call_soon_threadsafe(self._begin, cut)
                if self._is_draining.is_set():
                    break
            del self._open[name]
            self._add_time(READING_STAGE, watch.take())

    def _next(self) -> ToRead | None:
        with self._lock:
            return next(self._to_read, None)

    def _begin(self, cut: Cut) -> None:
        self._open[name_of(cut)] = None
        task = self._loop.create_task(self._done(cut))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _done(self, cut: Cut) -> None:
        try:
            await self._is_loaded.wait()
            assert self._work is not None
            with self._watch:
                done = await self._work.done(cut)
            self._take_times()
            if done is not None:
                self._arrived.put(done)
        except Exception as error:
            self._arrived.put(error)
        finally:
            self._room.release()
            self._open.pop(name_of(cut), None)

    def _take_times(self) -> None:
        assert self._committer is not None
        self._add_time(self._stages.shards.stage, self._watch.take())
        self._add_time(COMMIT_STAGE, self._committer.take_time())

    def _drain_work(self) -> None:
        if self._work is not None:
            self._work.drain()

    def _add_time(self, stage: str, time: StageTime) -> None:
        with self._lock:
            self._times[stage] = self._times.get(stage, StageTime()) + time


def _end(error: Exception) -> None:
    raise RunBrokenError(f"the engine has died: {error}; run the same command to resume") from error


async def _in_loop(make: Callable[[], Made], name: str) -> Made:
    """What `make` returns, in a thread that the end of the process does not wait for."""
    made: Future[Made] = Future()

    def attempt() -> None:
        try:
            made.set_result(make())
        except BaseException as error:
            made.set_exception(error)

    _in_thread(attempt, name)
    return await asyncio.wrap_future(made)


def _in_thread(work: Callable[[], None], name: str) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()
