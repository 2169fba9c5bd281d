"""A small run without Ray: everything in this process, with one engine.

A shard that ends the process ends the run. The next attempt finds that, and leaves the work to
workers of Ray, which find the shard.
"""

import threading
import time
from collections.abc import Callable, Iterator
from functools import cache

import pyarrow.compute as pc

from nightscribe.local.worker import LocalWorker, ToRead
from nightscribe.runs.attempt import Begun
from nightscribe.runs.commits import Committer
from nightscribe.runs.process_end import abandon_threads
from nightscribe.runs.progress import (
    PUBLISH_STAGE,
    StageTime,
    Stopwatch,
    log_results,
    waits_for,
)
from nightscribe.runs.shard_work import Committed
from nightscribe.runs.shards import Stages, num_words, transcribed_s
from nightscribe.storage.plan_rows import PlanRows

# As often as a run on Ray asks its workers.
COLLECT_S = 2.0
MAX_NAMES = 200


class LocalExecution:
    """The execution of an attempt, in this process."""

    def __init__(self, begun: Begun, stages: Stages, num_readers: int) -> None:
        self.progress = begun.progress
        self._begun, self._publisher = begun, begun.publisher
        commit_s = begun.spec.intervals.commit_s
        self._worker = LocalWorker(
            stages,
            self._to_read(),
            lambda: Committer(begun.store, commit_s, begun.revision),
            num_readers,
        )
        self._publishing = Stopwatch()
        self._publish_time = StageTime()
        self._published_at_s = self._collected_at_s = 0.0

    def work(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        # What an earlier attempt committed and did not live to publish.
        self._publish()
        left = self._publisher.left_of(self._begun.index)
        if not len(left):
            return
        self.progress.estimated_s = pc.sum(left["estimated_s"]).as_py()
        try:
            for one in self._worker.committed():
                self._receive(one)
                self._advance(stop)
                tick()
        except BaseException:
            abandon_threads()
            raise
        self._publish()
        self._collect(stop)

    def num_left(self) -> int:
        return len(self._publisher.left_of(self._begun.index))

    @property
    def num_live_steps(self) -> int:
        return self.progress.num_live_steps

    def describe(self) -> str:
        lines = [f"{self.progress.state}, {self.progress.num_shards} shards committed"]
        return "\n".join([*lines, "begun and not ended, oldest first:", *self._open_names()])

    def stacks_of_workers(self, timeout_s: float) -> str:
        return "none: the driver does the work itself"

    def _to_read(self) -> Iterator[ToRead]:
        """What is left of the plan, in order, from the stored rows."""
        done_ids = self._publisher.done_ids()
        plan = cache(lambda file: PlanRows(self._begun.store, self._begun.index.keys[file]))
        left = self._publisher.left_of(self._begun.index)
        for file, row in zip(left["file"].to_pylist(), left["row"].to_pylist(), strict=True):
            for planned in plan(file).read([row]):
                recording = planned.recording
                yield ToRead(recording, done_ids.get(recording.source_id, frozenset()))

    def _receive(self, one: Committed | None) -> None:
        if one is None:
            return
        outcome, receipt = one
        self.progress.receive(1, transcribed_s(outcome), num_words(outcome))
        self._publisher.receive([receipt])

    def _advance(self, stop: threading.Event) -> None:
        """Everything that happens now and then."""
        now_s, intervals = time.monotonic(), self._begun.spec.intervals
        if now_s - self._published_at_s > intervals.publish_s:
            self._publish()
        if now_s - self._collected_at_s > min(COLLECT_S, intervals.heartbeat_s):
            self._collected_at_s = now_s
            self._collect(stop)

    def _publish(self) -> None:
        self._published_at_s = time.monotonic()
        with self._publishing:
            new = self._publisher.publish()
        self._publish_time += self._publishing.take()
        if new:
            self.progress.add_results(new)
            log_results(new)

    def _collect(self, stop: threading.Event) -> None:
        if stop.is_set():
            self.progress.state = "draining"
            self._worker.drain()
            self.progress.waits_for = waits_for(*self._open())
        steps = self._worker.steps()
        self.progress.set_steps(steps.num_slot_steps, steps.num_live_steps)
        self.progress.set_transcribed(steps.transcribed_s)
        times = self._worker.stage_times()
        self.progress.set_stage_times(times | {PUBLISH_STAGE: self._publish_time})

    def _open(self) -> tuple[int, str]:
        names = self._worker.open_names()
        return len(names), next(iter(names), "")

    def _open_names(self) -> list[str]:
        return self._worker.open_names()[:MAX_NAMES]
