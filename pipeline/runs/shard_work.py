"""Shards to committed outcomes, by one transcriber; in a worker of Ray, or in the driver itself."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from nightscribe.audio.segmentation import FRAME_S
from nightscribe.records import Failure, ShardTranscript
from nightscribe.runs.commits import Committer
from nightscribe.runs.shards import ClipTranscriber, Cut, CutShard, ShardTask
from nightscribe.storage.parts import Receipt
from nightscribe.storage.rows import Outcome
from nightscribe.transcription.clips import ClipTranscript

# A transcriber without anything to do for this long commits what it has.
IDLE_S = 0.2

Committed = tuple[Outcome, Receipt]


@dataclass(frozen=True, slots=True)
class EngineSteps:
    """What one worker last reported about its engine."""

    num_slot_steps: int
    num_live_steps: int
    transcribed_s: float = 0.0  # seconds of recordings whose transcription has ended


class ShardWork:
    """The shards of one transcriber, from queue to commit; used in one event loop."""

    def __init__(
        self,
        transcriber: ClipTranscriber,
        task: ShardTask,
        committer: Committer,
        when_dead: Callable[[Exception], None],
    ) -> None:
        """`when_dead` is called when the engine has died, which no shard survives."""
        self._transcriber, self._task = transcriber, task
        self._committer, self._when_dead = committer, when_dead
        self._is_draining = False
        self._pending: set[Future[ClipTranscript]] = set()
        self._heard = _Heard()

    @property
    def num_in_flight(self) -> int:
        return len(self._pending)

    async def done(
        self, cut: Cut, when_heard: Callable[[Cut], None] = lambda cut: None
    ) -> Committed | None:
        """Return once the shard is committed; None: the run drains, and it was not begun.

        `when_heard` is called before, once the shard needs no slot any more.
        """
        outcome = await self._outcome(cut)
        when_heard(cut)
        return None if outcome is None else (outcome, await self.committed(outcome))

    async def committed(self, outcome: Outcome) -> Receipt:
        committing = self._committer.commit(outcome)
        if not self._pending:
            # Nobody would come to share the part.
            asyncio.get_running_loop().call_later(IDLE_S, self._flush_if_idle)
        return await committing

    def drain(self) -> None:
        """Shards that have no slot yet need not be transcribed."""
        self._is_draining = True
        for pending in list(self._pending):
            pending.cancel()

    def steps(self) -> EngineSteps:
        stats = self._transcriber.stats
        heard_s = self._heard.so_far_s(stats.num_live_steps)
        return EngineSteps(stats.num_slot_steps, stats.num_live_steps, heard_s)

    def take_counts(self) -> list[float]:
        """Seconds, words and shards that were transcribed since the last call."""
        return self._heard.take_counts()

    def failure(self, cut: CutShard, reason: str, detail: str, attempts: int = 1) -> Failure:
        return Failure(
            recording=cut.shard.recording,
            shard=cut.shard,
            stage=self._task.stage,
            reason=reason,
            detail=detail,
            attempts=attempts,
        )

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
            if self._transcriber.has_died:
                self._when_dead(error)
            return self.failure(cut, *self._task.cause(error))

    async def _transcribe(self, cut: CutShard) -> ShardTranscript | None:
        if self._is_draining:
            return None
        model = self._transcriber
        pending = model.submit(self._task.clip(cut))
        self._pending.add(pending)
        self._heard.in_flight_s += cut.shard.owned_s
        try:
            transcript = await asyncio.wrap_future(pending)
        finally:
            self._pending.discard(pending)
            self._heard.in_flight_s -= cut.shard.owned_s
        self._heard.end(cut, transcript)
        return self._task.shard_transcript(cut, transcript, model.model, model.model_revision)

    def _flush_if_idle(self) -> None:
        if not self._pending:
            self._committer.flush()


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
