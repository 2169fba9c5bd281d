"""On a GPU: one transcriber whose slots stay full across the blocks that Ray sends.

Ray sends a few dozen small blocks at once, each to a coroutine of its own; their shards share the
one engine. A dead engine ends the process, so that Ray sends the same blocks to a new worker.
"""

import asyncio
import ctypes
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, Protocol

import pyarrow as pa

from nightscribe.cluster.attempt_registry import EngineSteps, RegistryHandle, this_node
from nightscribe.cluster.isolation import IsolationLock
from nightscribe.cluster.metrics import count_transcribed, export_engine_stats
from nightscribe.cluster.progress import Stopwatch
from nightscribe.cluster.rows import Cut, CutShard, cuts_of, outcome_table
from nightscribe.cluster.watchdog import dump_stacks_on_signal
from nightscribe.records import Failure, ShardTranscript, primary_language
from nightscribe.storage.rows import Outcome
from nightscribe.transcription.clips import Clip, ClipTranscript

STAGE = "transcribe"
LOADING_STAGE = "load the model"
REPORT_INTERVAL_S = 10.0

# The constants of mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 2**30
# The most that glibc accepts: half of what every thread but the first gets at a time.
MAX_MMAP_THRESHOLD_BYTES = 32 * 2**20

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

    def submit(self, clip: Clip) -> Future[ClipTranscript]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOptions:
    """What a worker adds to each shard, and what it keeps of the result."""

    keep_tokens: bool = False
    language_prompts: Mapping[str, Any] = field(default_factory=dict)  # Prompts, by language

    def clip(self, cut: CutShard) -> Clip:
        recording = cut.shard.recording
        return Clip(
            clip_id=cut.shard.shard_id,
            samples_N=cut.samples_N,
            domain=recording.domain,
            prompt=self.language_prompts.get(primary_language(recording.language or "")),
            speech=cut.speech,
        )

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


class TranscribingActor:
    """Rows with audio in, rows with words out."""

    def __init__(
        self,
        make_transcriber: Callable[[], ClipTranscriber],
        options: ShardOptions,
        registry: RegistryHandle,
        rows_in_flight: int,
        max_worker_deaths: int,
    ) -> None:
        dump_stacks_on_signal()
        keep_freed_memory()
        self._registry, self._watch = registry, Stopwatch()
        with self._watch:
            self._transcriber = make_transcriber()
        registry.add_stage_time.remote(LOADING_STAGE, self._watch.take())
        self._options, self._max_worker_deaths = options, max_worker_deaths
        # Shards that were in a worker when it died: small groups find the one that killed it
        # without condemning its neighbours, and after two deaths a shard has the worker alone.
        self._suspects = asyncio.Semaphore(max(isqrt(rows_in_flight), 1))
        self._isolation = IsolationLock()
        self._node = this_node()
        self._name = f"{os.getpid()} on {self._node}"
        self._reporting: asyncio.Task[None] | None = None
        self.num_in_flight = 0
        export_engine_stats(self)

    @property
    def stats(self) -> Any:
        return self._transcriber.stats

    async def __call__(self, table: pa.Table) -> pa.Table:
        self._reporting = self._reporting or asyncio.create_task(self._report_regularly())
        with self._watch:
            outcomes = await self._transcribe_block(table)
        self._registry.add_stage_time.remote(STAGE, self._watch.take())
        return outcomes

    async def _transcribe_block(self, table: pa.Table) -> pa.Table:
        cuts = list(cuts_of(table))
        deaths = await self._registry.worker_deaths.remote([_name(cut) for cut in cuts])
        if deaths is None:
            return outcome_table([])
        outcomes = await asyncio.gather(*map(self._outcome, cuts, deaths))
        return outcome_table([outcome for outcome in outcomes if outcome is not None])

    async def _report_regularly(self) -> None:
        """A shard may take hours; the steps of the engine show that it moves."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            self._registry.report_engine.remote(self._name, self._steps())

    def _steps(self) -> EngineSteps:
        return EngineSteps(self.stats.num_slot_steps, self.stats.num_live_steps)

    async def _outcome(self, cut: Cut, num_deaths: int) -> Outcome | None:
        if isinstance(cut, Failure):
            return cut
        if num_deaths >= self._max_worker_deaths:
            detail = f"it ended its worker {num_deaths} times"
            return _failure(cut, "worker_killed", detail, num_deaths)
        if num_deaths > 1:
            async with self._isolation.alone():
                return await self._attempt(cut)
        if num_deaths == 1:
            async with self._suspects, self._isolation.shared():
                return await self._attempt(cut)
        async with self._isolation.shared():
            return await self._attempt(cut)

    async def _attempt(self, cut: CutShard) -> Outcome | None:
        if not await self._registry.begin.remote(_name(cut), self._node):
            return None
        self.num_in_flight += 1
        try:
            transcript = await self._transcribe(cut)
            count_transcribed(transcript)
            return transcript
        except Exception as error:
            self._exit_if_dead(error)
            return _failure(cut, "not_transcribed", f"{type(error).__name__}: {error}")
        finally:
            self.num_in_flight -= 1
            self._registry.end.remote(_name(cut), self._name, self._steps())

    async def _transcribe(self, cut: CutShard) -> ShardTranscript:
        model = self._transcriber
        transcript = await asyncio.wrap_future(model.submit(self._options.clip(cut)))
        return self._options.shard_transcript(cut, transcript, model.model, model.model_revision)

    def _exit_if_dead(self, error: Exception) -> None:
        if self._transcriber.has_died:
            log.error("the engine died, this worker exits: %s", error)
            # An exit that no exception handler can turn into a row or a failed task.
            os._exit(1)


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


def _failure(cut: CutShard, reason: str, detail: str, attempts: int = 1) -> Failure:
    return Failure(
        recording=cut.shard.recording,
        shard=cut.shard,
        stage="transcribe",
        reason=reason,
        detail=detail,
        attempts=attempts,
    )
