"""A made-up archive, reader and transcriber, for measurements of everything between them."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from pathlib import Path

import numpy as np

from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.resources import Pool
from nightscribe.engine.loop import EngineStats
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import PlannedRecording, Recording, Shard, Word
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.config import ClusterConfig, IntervalsConfig
from nightscribe.runs.progress import Progress
from nightscribe.runs.shards import Cut, CutShard, Stages
from nightscribe.storage.locations import S3Config
from nightscribe.storage.run import write_plan
from nightscribe.transcription.clips import Clip, ClipTranscript

RATE_HZ = 24_000
SHARD_S = 45.0
NUM_WORDS = 120
NUM_SLOTS = 256
FIRST_CLIP = "first-clip"
WORDS = tuple(
    Word(f"word{n}", SHARD_S / NUM_WORDS * n, SHARD_S / NUM_WORDS * (n + 1), 0.5 + n / 1000)
    for n in range(NUM_WORDS)
)
NONE_T = np.zeros(0)


def made_up(num_recordings: int, shards_each: int) -> Iterator[Recording]:
    for number in range(num_recordings):
        yield Recording(
            uri=f"s3://made-up/folder-{number // 1000:04d}/recording-{number:07d}.flac",
            size_bytes=int(shards_each * SHARD_S * 40_000),
            version="1",
            expected_s=shards_each * SHARD_S,
        )


def planned(num_recordings: int) -> Iterator[PlannedRecording]:
    return plan(made_up(num_recordings, 1), lambda one: one.uri, PlanningConfig())


def workers(num_actors: int = 1, gpus_per_actor: float = 0.0) -> Pool:
    """For two cores, or for nodes with a GPU each."""
    return Pool(
        num_actors=num_actors,
        gpus_per_actor=gpus_per_actor,
        cpus_per_actor=0.5,
        num_audio_workers=max(2, num_actors),
        num_slots=NUM_SLOTS,
    )


def run(
    folder: Path,
    recordings: Iterator[Recording] | Path,
    answer_s: float,
    tell: Callable[[Progress], None],
    pool: Pool,
    num_executors: int = 1,
    stop: threading.Event | None = None,
    output: str | None = None,
    s3: S3Config | None = None,
) -> Progress:
    path = folder / "plan.parquet"
    if not isinstance(recordings, Path):
        write_plan(plan(recordings, lambda one: one.uri, PlanningConfig()), path)
    spec = RunSpec(
        plan=path,
        settings={"benchmark": True},
        stages=Stages(
            read=read,
            make_transcriber=partial(Answering, answer_s, folder / FIRST_CLIP),
            output=output or str(folder / "out"),
            s3=s3 or S3Config(),
        ),
        examine=as_it_is,
        cluster=ClusterConfig(drivers=num_executors),
        intervals=IntervalsConfig(publish_s=15.0),
    )
    return transcribe(spec, pool, stop or threading.Event(), tell)


def as_it_is(transcript):
    return transcript


def read(recording: Recording) -> Iterator[Cut]:
    """Shards of real size, without the work of decoding them."""
    size = round(SHARD_S * RATE_HZ)
    num_shards = round((recording.expected_s or SHARD_S) / SHARD_S)
    for index in range(num_shards):
        start, end = index * size, (index + 1) * size
        shard = Shard(
            recording=recording,
            index=index,
            sample_rate_hz=RATE_HZ,
            start_sample=start,
            end_sample=end,
            owned_start_sample=start,
            owned_end_sample=end,
            is_last=index == num_shards - 1,
        )
        yield CutShard(shard, np.zeros(size, np.int16))


@dataclass(order=True)
class _Waiting:
    due_s: float
    number: int
    clip: Clip
    future: Future


class Answering:
    """Answers every clip after a constant time, without a processor."""

    has_died = False
    model, model_revision = "made-up", "1"

    def __init__(self, answer_s: float, first_clip: Path | None = None) -> None:
        """`first_clip`: a file whose time says when the first clip was in the engine."""
        self._answer_s, self._number, self._first_clip = answer_s, 0, first_clip
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self.stats = EngineStats(num_slots=NUM_SLOTS)
        if answer_s:
            threading.Thread(target=self._answer_in_time, daemon=True).start()

    def submit(self, clip: Clip) -> Future:
        if self._first_clip and not self._first_clip.exists():
            self._first_clip.touch()
        future: Future = Future()
        if not self._answer_s:
            _answer(clip, future)
            return future
        with self._changed:
            self._number += 1
            due_s = time.monotonic() + self._answer_s
            heappush(self._waiting, _Waiting(due_s, self._number, clip, future))
            self._changed.notify()
        return future

    def _answer_in_time(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                waiting = heappop(self._waiting)
            time.sleep(max(waiting.due_s - time.monotonic(), 0.0))
            _answer(waiting.clip, waiting.future)


def _answer(clip: Clip, future: Future) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(ClipTranscript(clip.clip_id, WORDS, NONE_T, NONE_T, NONE_T[:, None]))
