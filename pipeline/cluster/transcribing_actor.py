"""On a GPU: one transcriber whose slots stay full across the packets that Ray sends.

Ray sends many packets at once, each to a coroutine of its own, which waits until slots need it;
their shards share the queue of the one engine, and the parts that are committed every few seconds.
A packet is done when its last shard is committed. A dead engine ends the process, so that Ray sends
the same packets to a new worker.
"""

import asyncio
import ctypes
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, Protocol

import pyarrow as pa

from nightscribe.audio.segmentation import FRAME_S
from nightscribe.cluster.admission import Admission
from nightscribe.cluster.attempt_registry import EngineSteps, RegistryHandle, this_node
from nightscribe.cluster.commits import Committer
from nightscribe.cluster.isolation import IsolationLock
from nightscribe.cluster.metrics import count_transcribed, export_engine_stats
from nightscribe.cluster.packet_plan import SHARDS_PER_SLOT
from nightscribe.cluster.progress import StageTime, Stopwatch
from nightscribe.cluster.rows import Cut, CutShard, cuts_of, receipts_table
from nightscribe.cluster.watchdog import dump_stacks_on_signal
from nightscribe.records import Failure, Recording, ShardTranscript, primary_language
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import Receipt
from nightscribe.storage.rows import Outcome
from nightscribe.transcription.clips import Clip, ClipTranscript

LOADING_STAGE = "load the model"
COMMIT_STAGE = "commit"
REPORT_INTERVAL_S = 2.0
# A transcriber without anything to do for this long commits what it has.
IDLE_S = 0.2

# The constants of mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 2**30
# The most that glibc accepts: half of what every thread but the first gets at a time.
MAX_MMAP_THRESHOLD_BYTES = 32 * 2**20

Committed = tuple[Outcome, Receipt]

log = logging.getLogger(__name__)


class ClipTranscriber(Protocol):
    """What a worker needs of a `Transcriber`."""

    model: str
    model_revision: str

    @property
    def has_died(self) -> bool: ...

    @property
    def stats(self) -> Any:
        """Those of its engine."""

    def submit(self, clip: Any) -> Future[Any]: ...


class ShardTask(Protocol):
    """What a worker makes of each shard: the input of its transcriber, and a row of the result."""

    @property
    def stage(self) -> str:
        """Its name in failures."""

    def clip(self, cut: CutShard) -> Any: ...

    def shard_transcript(
        self, cut: CutShard, transcript: Any, model: str, model_revision: str
    ) -> ShardTranscript: ...

    def cause(self, error: Exception) -> tuple[str, str]:
        """A code and a sentence for a shard that the transcriber refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOptions:
    """What a worker adds to each shard, and what it keeps of the result."""

    stage: str = "transcribe"
    keep_tokens: bool = False
    language_prompts: Mapping[str, Any] = field(default_factory=dict)  # Prompts, by language
    read_prompt: Callable[[str, str | None], Any] | None = None  # a text and a file of a manifest

    def clip(self, cut: CutShard) -> Clip:
        recording = cut.shard.recording
        return Clip(
            clip_id=cut.shard.shard_id,
            samples_N=cut.samples_N,
            domain=recording.domain,
            prompt=self._prompt(recording),
            terms=recording.terms,
            speech=cut.speech,
        )

    def _prompt(self, recording: Recording) -> Any:
        """Of the recording, where the manifest has one, else that of its language."""
        spoken = self.language_prompts.get(primary_language(recording.language or ""))
        if recording.prompt is None and recording.prompt_audio is None:
            return spoken
        if self.read_prompt is None:
            raise ValueError(f"{recording.uri}: this worker reads no prompts of manifests")
        return self.read_prompt(recording.prompt or "", recording.prompt_audio)

    def shard_transcript(
        self, cut: CutShard, transcript: ClipTranscript, model: str, model_revision: str
    ) -> ShardTranscript:
        stored = slice(None) if self.keep_tokens else slice(0)
        return ShardTranscript(
            shard=cut.shard,
            words=transcript.words,
            tokens=tuple(transcript.tokens_T[stored].tolist()),
            token_confidences=tuple(transcript.confidences_T[stored].tolist()),
            speech=cut.speech,
            turn_ends_s=transcript.turn_ends_s,
            voices=transcript.voices,
            num_redecoded=transcript.num_redecoded,
            model=model,
            model_revision=model_revision,
        )

    def cause(self, error: Exception) -> tuple[str, str]:
        return "not_transcribed", f"{type(error).__name__}: {error}"


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
        self._is_draining = False
        self._pending: set[Future[ClipTranscript]] = set()
        self._heard = _Heard()
        export_engine_stats(self)

    @property
    def stats(self) -> Any:
        return self._transcriber.stats

    @property
    def num_in_flight(self) -> int:
        return len(self._pending)

    async def __call__(self, table: pa.Table) -> pa.Table:
        self._reporting = self._reporting or asyncio.create_task(self._report_regularly())
        with self._watch:
            done = await self._transcribe_packet(list(cuts_of(table)))
        count_transcribed(*self._heard.take_counts())
        outcomes, receipts = [one for one, _ in done], [receipt for _, receipt in done]
        return receipts_table(receipts, outcomes)

    async def _transcribe_packet(self, cuts: list[Cut]) -> list[Committed]:
        names = [_name(cut) for cut in cuts]
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
            *(self._name, self._steps(), self._take_times()),
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
            failure = self._failure(cut, "worker_killed", detail, num_deaths)
            return [(failure, await self._committed(failure))]
        async with self._isolation.alone():
            if not await self._begin_again([cut]):
                return []
            return await self._group([cut])

    async def _begin_again(self, cuts: list[Cut]) -> bool:
        names = [_name(cut) for cut in cuts]
        return await self._registry.begin_again.remote(names, self._node)

    async def _shared(self, cuts: list[Cut]) -> list[Committed]:
        async with self._isolation.shared():
            return await self._group(cuts)

    async def _group(self, cuts: list[Cut]) -> list[Committed]:
        """What has begun together, and ends together in the registry."""
        done = await self._all_done(cuts)
        self._registry.end.remote([_name(cut) for cut in cuts])
        return done

    async def _all_done(self, cuts: list[Cut]) -> list[Committed]:
        return [one for one in await asyncio.gather(*map(self._done, cuts)) if one is not None]

    async def _done(self, cut: Cut) -> Committed | None:
        outcome = await self._outcome(cut)
        self._admission.leave([_name(cut)])
        return None if outcome is None else (outcome, await self._committed(outcome))

    async def _outcome(self, cut: Cut) -> Outcome | None:
        if isinstance(cut, Failure):
            return cut
        try:
            return await self._transcribe(cut)
        except asyncio.CancelledError:
            if not self._is_draining:
                raise
            return None
        except Exception as error:
            self._exit_if_dead(error)
            return self._failure(cut, *self._options.cause(error))

    async def _transcribe(self, cut: CutShard) -> ShardTranscript | None:
        if self._is_draining:
            return None
        model = self._transcriber
        pending = model.submit(self._options.clip(cut))
        self._pending.add(pending)
        self._heard.in_flight_s += cut.shard.owned_s
        try:
            transcript = await asyncio.wrap_future(pending)
        finally:
            self._pending.discard(pending)
            self._heard.in_flight_s -= cut.shard.owned_s
        self._heard.end(cut, transcript)
        return self._options.shard_transcript(cut, transcript, model.model, model.model_revision)

    async def _committed(self, outcome: Outcome) -> Receipt:
        committing = self._committer.commit(outcome)
        if not self._pending:
            # Nobody would come to share the part.
            asyncio.get_running_loop().call_later(IDLE_S, self._flush_if_idle)
        return await committing

    def _flush_if_idle(self) -> None:
        if not self._pending:
            self._committer.flush()

    async def _report_regularly(self) -> None:
        """A shard may take hours; the steps of the engine show that it moves."""
        while True:
            if await self._registry.report_engine.remote(self._name, self._steps()):
                self._drain()
            count_transcribed(*self._heard.take_counts())
            await asyncio.sleep(REPORT_INTERVAL_S)

    def _failure(self, cut: CutShard, reason: str, detail: str, attempts: int = 1) -> Failure:
        return Failure(
            recording=cut.shard.recording,
            shard=cut.shard,
            stage=self._options.stage,
            reason=reason,
            detail=detail,
            attempts=attempts,
        )

    def _drain(self) -> None:
        """Shards that have no slot yet need not be transcribed."""
        self._is_draining = True
        for pending in list(self._pending):
            pending.cancel()

    def _steps(self) -> EngineSteps:
        stats = self.stats
        heard_s = self._heard.so_far_s(stats.num_live_steps)
        return EngineSteps(stats.num_slot_steps, stats.num_live_steps, heard_s)

    def _exit_if_dead(self, error: Exception) -> None:
        if self._transcriber.has_died:
            log.error("the engine died, this worker exits: %s", error)
            # An exit that no exception handler can turn into a row or a failed task.
            os._exit(1)


@dataclass(slots=True)
class _Heard:
    """How far an engine is, in seconds of recordings."""

    ended_s: float = 0.0
    ended_steps: int = 0
    in_flight_s: float = 0.0
    uncounted: list[float] = field(default_factory=lambda: [0.0, 0, 0])

    def end(self, cut: CutShard, transcript: ClipTranscript) -> None:
        self.ended_s += cut.shard.owned_s
        self.ended_steps += transcript.num_steps
        for place, amount in enumerate((cut.shard.owned_s, len(transcript.words), 1)):
            self.uncounted[place] += amount

    def so_far_s(self, num_live_steps: int) -> float:
        """With what is in the slots, by the steps that were spent on it."""
        open_s = (num_live_steps - self.ended_steps) * FRAME_S
        return self.ended_s + min(max(open_s, 0.0), self.in_flight_s)

    def take_counts(self) -> list[float]:
        """Seconds, words and shards since the last call."""
        taken, self.uncounted = self.uncounted, [0.0, 0, 0]
        return taken


def keep_freed_memory() -> bool:
    """Make malloc of this process keep what tensors free; whether the C library can do so.

    The tensors of a step come and go thousands of times. In a worker of Ray the allocator often
    returns their pages to the kernel and fetches them again each time, which costs an engine on a
    CPU up to a third of its speed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # only glibc has it
        return False
    options = {
        M_MMAP_THRESHOLD: MAX_MMAP_THRESHOLD_BYTES,
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: 2 * MAX_MMAP_THRESHOLD_BYTES,
    }
    return all([mallopt(option, num_bytes) for option, num_bytes in options.items()])


def _name(cut: Cut) -> str:
    return cut.shard.shard_id if isinstance(cut, CutShard) else cut.recording.recording_id
