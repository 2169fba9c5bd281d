"""A fake transcriber whose steps take constant time and no CPU, and a log of its clips."""

import json
import time
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from nightscribe.engine.loop import EngineStats, step_engine
from nightscribe.transcription.transcriber import (
    Clip,
    ClipAdapter,
    ClipTranscript,
    Transcriber,
)

FRAME_SAMPLES, FRAME_S = 1920, 0.08
STEP_S = 0.003


@dataclass(frozen=True, slots=True)
class Noted:
    """How far the engine was when a shard began or ended."""

    at_s: float
    cpu_s: float  # of the transcriber's process
    begins: bool
    num_live_steps: int
    num_slot_steps: int


@dataclass(frozen=True)
class Diary:
    """A file that an actor writes and the driver reads after the run."""

    path: Path

    def kept_by(self, transcriber: Transcriber) -> "Keeping":
        return Keeping(transcriber, self)

    def note(self, begins: bool, stats: EngineStats) -> None:
        steps = stats.num_live_steps, stats.num_slot_steps
        with self.path.open("a") as file:
            noted = Noted(time.time(), time.process_time(), begins, *steps)
            file.write(json.dumps(asdict(noted)) + "\n")

    def read(self) -> list[Noted]:
        return [Noted(**json.loads(line)) for line in self.path.read_text().splitlines()]


class Keeping:
    """A transcriber that logs the start and end of every clip."""

    def __init__(self, transcriber: Transcriber, diary: Diary) -> None:
        self._transcriber, self._diary = transcriber, diary
        self.model, self.model_revision = transcriber.model, transcriber.model_revision

    @property
    def has_died(self) -> bool:
        return self._transcriber.has_died

    @property
    def stats(self):
        return self._transcriber.stats

    def submit(self, clip: Clip) -> Future[ClipTranscript]:
        self._diary.note(True, self.stats)
        future = self._transcriber.submit(clip)
        future.add_done_callback(lambda _: self._diary.note(False, self.stats))
        return future


def paced_transcriber(diary: Diary, num_slots: int, step_s: float = STEP_S) -> Keeping:
    adapter = ClipAdapter(
        sample_rate_hz=24_000,
        frame_samples=FRAME_SAMPLES,
        prefix_frames=0,
        flush_frames=0,
        read_words=no_words,
    )
    engine = step_engine(Paced(num_slots, step_s))
    return diary.kept_by(Transcriber(engine, adapter, model="stand-in"))


def no_words(clip, output) -> list:
    return []


class Paced:
    """As a device would: rounds run one after the other while the host plans the next."""

    def __init__(self, num_slots: int, step_s: float) -> None:
        self._step_s = step_s
        self.frame_samples, self.num_vad_heads, self.bucket_sizes = FRAME_SAMPLES, 0, [num_slots]
        self._is_free_at_s = 0.0

    def encode(self, chunk) -> None:
        return None

    def move(self, sources, targets) -> None:
        return None

    def run(self, steps, codes) -> "PacedSaid":
        begins_at_s = max(self._is_free_at_s, time.monotonic())
        self._is_free_at_s = begins_at_s + steps.num_steps * self._step_s
        return PacedSaid(self._is_free_at_s, (steps.num_steps, steps.num_slots))


class PacedSaid:
    def __init__(self, done_at_s: float, shape: tuple[int, int]) -> None:
        self._done_at_s, self._shape = done_at_s, shape

    def wait(self) -> SimpleNamespace:
        time.sleep(max(self._done_at_s - time.monotonic(), 0.0))
        return SimpleNamespace(
            tokens_TS=np.zeros(self._shape, np.int32),
            confidences_TS=np.ones(self._shape, np.float32),
            vad_TSH=np.zeros((*self._shape, 0), np.float32),
        )
