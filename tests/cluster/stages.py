"""A reader and a transcriber for tests: sound from a file's name, words from the hashing model."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np

from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Failure, PlannedRecording, Recording, Shard
from nightscribe.runs.shards import Cut, CutShard, Stages
from nightscribe.storage.locations import S3Config
from nightscribe.storage.run import write_plan
from nightscribe.transcription.transcriber import Clip, ClipTranscript, Transcriber
from tests.fakes import hashing_transcriber

RATE_HZ = 24_000
SHARD_S = 2
FRAME_SAMPLES = 1920


def recording(number: int, duration_s: float = 3.0, kind: str = "good") -> Recording:
    """Its sound is a function of its name."""
    uri = f"s3://archive/{kind}-{number:04d}.wav"
    return Recording(uri=uri, size_bytes=1, version="1", expected_s=duration_s)


def plan_file(recordings: list[Recording], folder: Path) -> Path:
    path = folder / "plan.parquet"
    planned = [
        PlannedRecording(recording=one, window=0, estimated_s=one.expected_s or 0.0)
        for one in recordings
    ]
    write_plan(planned, path)
    return path


def read(recording: Recording) -> Iterator[Cut]:
    """Shards of two seconds; a recording named `bad` cannot be decoded."""
    if "/bad-" in recording.uri:
        yield Failure(recording=recording, stage="decode", reason="no_audio", detail="not audio")
        return
    samples_N = sound(recording)
    step = SHARD_S * RATE_HZ
    starts = range(0, len(samples_N), step)
    for index, start in enumerate(starts):
        end = min(start + step, len(samples_N))
        shard = Shard(
            recording=recording,
            index=index,
            sample_rate_hz=RATE_HZ,
            start_sample=start,
            end_sample=end,
            owned_start_sample=start,
            owned_end_sample=end,
            is_last=index == len(starts) - 1,
        )
        yield CutShard(shard, samples_N[start:end])


def sound(recording: Recording) -> np.ndarray:
    seed = int.from_bytes(recording.uri.encode()[-8:-4], "big")
    num_samples = round((recording.expected_s or 0.0) * RATE_HZ)
    return np.random.default_rng(seed).integers(-99, 99, num_samples).astype(np.int16)


def transcriber(num_slots: int, pause_s: float = 0.0, crash_folder: str = ""):
    inner = hashing_transcriber(num_slots, guards=GuardsConfig())
    return CrashingTranscriber(inner, pause_s, crash_folder)


class CrashingTranscriber:
    """Ends its process on a recording named `poison`, always, and on one named `shaky`, once.

    On one named `held` it waits until there is a file of that name in the folder.
    """

    def __init__(self, inner: Transcriber, pause_s: float, crash_folder: str) -> None:
        self._inner, self._pause_s, self._crash_folder = inner, pause_s, crash_folder
        self.model, self.model_revision = inner.model, inner.model_revision

    @property
    def has_died(self) -> bool:
        return self._inner.has_died

    @property
    def stats(self):
        return self._inner.stats

    def submit(self, clip: Clip) -> Future[ClipTranscript]:
        recording_id, _, index = clip.clip_id.partition("/")
        name = names_by_id().get(recording_id, "")
        if name.startswith("poison-") and int(index) == 0:
            os._exit(1)
        mark = Path(self._crash_folder) / name
        if name.startswith("shaky-") and not mark.exists():
            mark.touch()
            os._exit(1)
        if name.startswith("held-"):
            return ThreadPoolExecutor(1).submit(self._submit_once_there, clip, mark)
        if self._pause_s:
            time.sleep(self._pause_s)
        return self._inner.submit(clip)

    def _submit_once_there(self, clip: Clip, mark: Path) -> ClipTranscript:
        while not mark.exists():
            time.sleep(0.05)
        return self._inner.submit(clip).result()


@cache
def names_by_id() -> dict[str, str]:
    """The file names of all recordings that make trouble, by the ids that clips are known by."""
    some = [
        recording(number, kind=kind)
        for kind in ("poison", "shaky", "held")
        for number in range(200)
    ]
    return {one.recording_id: Path(one.uri).name for one in some}


def stages(output: Path | str, num_slots: int = 4, **behaviour) -> Stages:
    return Stages(
        read=read,
        make_transcriber=partial(transcriber, num_slots, **behaviour),
        output=str(output),
        s3=S3Config(),
    )
