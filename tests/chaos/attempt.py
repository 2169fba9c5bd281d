"""One attempt at a run as a process of its own, to be killed.

Files, decoding, cutting, commits and tables are real; only the transcriber is made up, and what it
says of a shard depends on the shard's samples alone.
"""

import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from zlib import crc32

import numpy as np

from nightscribe.audio.segmentation import ShardConfig
from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.ray_session import connected
from nightscribe.cluster.resources import pool_for
from nightscribe.engine.loop import EngineStats
from nightscribe.guards.config import GuardsConfig
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Recording, Word
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.audio_reader import AudioReader, SourceConfig
from nightscribe.runs.config import ClusterConfig, IntervalsConfig, RayConfig
from nightscribe.runs.shards import Cut, Stages
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.current_plan import read_current
from nightscribe.storage.lease import LeaseConfig
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.plan_changes import Revision
from nightscribe.storage.run import Night, write_plan
from nightscribe.storage.scratch import ScratchConfig
from nightscribe.storage.sources import recordings
from nightscribe.transcription.clips import Clip, ClipTranscript

RATE_HZ = 24_000
WORD_S = 0.25
SHARD = ShardConfig(max_s=3.0, search_s=1.0, overlap_s=0.4)
SLOTS = 4


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What there is to do and where; the same one again is the same command again."""

    input: str
    output: str
    scratch: str
    address: str | None = None  # None: a Ray of its own
    endpoint: str | None = None
    pause_s: float = 0.2  # what hearing a shard takes
    life_s: float = 10.0
    num_actors: int = 2
    min_actors: int | None = None  # None: all
    num_executors: int = 1
    retire_s: float = 2.0
    model: str = "samples"
    missing: str = "keep"
    revise: bool = False

    def begin(self, log: Path) -> Process:
        """In a process that has imported everything before it was born."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        process = context.Process(target=_work_alone, args=(self, log), daemon=True)
        process.start()
        return process


class SlowReader:
    """The real one, busy for long enough to be met at work."""

    def __init__(self, reader: AudioReader, pause_s: float) -> None:
        self._reader, self._pause_s = reader, pause_s

    def __call__(self, recording: Recording) -> Iterator[Cut]:
        for cut in self._reader(recording):
            time.sleep(self._pause_s)
            yield cut


class SamplesTranscriber:
    """A word for every quarter of a second, spelt by the samples and the model."""

    has_died = False
    model_revision = "1"

    def __init__(self, pause_s: float, model: str) -> None:
        self._pause_s, self.model = pause_s, model
        self._threads = ThreadPoolExecutor(2 * SLOTS)
        self.stats = EngineStats()

    def submit(self, clip: Clip) -> Future[ClipTranscript]:
        return self._threads.submit(self._transcript, clip)

    def _transcript(self, clip: Clip) -> ClipTranscript:
        time.sleep(self._pause_s)
        none_T = np.zeros(0)
        return ClipTranscript(
            clip.clip_id, tuple(_words(clip, self.model)), none_T, none_T, none_T[:, None]
        )


def _words(clip: Clip, model: str) -> Iterator[Word]:
    step = round(WORD_S * RATE_HZ)
    for start in range(0, len(clip.samples_N) - step + 1, step):
        said = crc32(clip.samples_N[start : start + step].tobytes())
        yield Word(f"{model}{said}", start / RATE_HZ, (start + step) / RATE_HZ, said / 2**32)


def order(attempt: Attempt, plan_path: Path) -> RunSpec:
    s3 = S3Config(endpoint=attempt.endpoint)
    reader = AudioReader(
        sample_rate_hz=RATE_HZ,
        source=SourceConfig(scratch=ScratchConfig(folder=attempt.scratch)),
        shard=SHARD,
        guards=GuardsConfig(),
        s3=s3,
    )
    return RunSpec(
        plan=plan_path,
        settings={"model": attempt.model},
        stages=Stages(
            read=SlowReader(reader, attempt.pause_s),
            make_transcriber=partial(SamplesTranscriber, attempt.pause_s, attempt.model),
            output=attempt.output,
            s3=s3,
        ),
        examine=_itself,
        cluster=_cluster(attempt),
        intervals=IntervalsConfig(
            publish_s=1.0, heartbeat_s=1.0, commit_s=1.0, retire_s=attempt.retire_s
        ),
        lease=LeaseConfig(life_s=attempt.life_s),
    )


def _itself(given):
    return given


def _cluster(attempt: Attempt) -> ClusterConfig:
    return ClusterConfig(
        num_actors=attempt.num_actors,
        min_actors=attempt.min_actors,
        drivers=attempt.num_executors,
        cpus_per_actor=0.5,
        num_audio_workers=2,
        cpus_per_audio_worker=0.5,
        shards_in_flight=2 * SLOTS,
        object_store_gib=0.1,
        wait_s=30.0,
    )


def work(attempt: Attempt) -> None:
    with (
        connected(RayConfig(address=attempt.address), _cluster(attempt)),
        tempfile.TemporaryDirectory() as folder,
    ):
        path, s3 = Path(folder) / "plan.parquet", S3Config(endpoint=attempt.endpoint)
        before = read_current(open_store(attempt.output, s3), path.parent)
        found = before.unseen(recordings(attempt.input, s3))
        write_plan(plan(found, ContentHasher(), PlanningConfig()), path)
        night = Night(
            missing=attempt.missing,
            revision=Revision() if attempt.revise else None,
            retry="passing",
            compared=before,
        )
        pool, spec = pool_for(_cluster(attempt), SLOTS), replace(order(attempt, path), night=night)
        transcribe(spec, pool, threading.Event(), lambda progress: None)


def _work_alone(attempt: Attempt, log: Path) -> None:
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    logging.basicConfig(stream=sys.stderr)
    work(attempt)


if __name__ == "__main__":
    _work_alone(Attempt(**json.loads(sys.argv[1])), Path(sys.argv[2]))
