"""A listener whose steps take a constant time and no processor, and a diary of what is heard."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from nightscribe.cluster.listening import TranscriberListener
from nightscribe.engine.stepping import stepping_engine
from nightscribe.guards.config import GuardsConfig
from nightscribe.transcription.clips import Conversation
from nightscribe.transcription.transcriber import Transcriber

FRAME_SAMPLES, FRAME_S = 1920, 0.08
STEP_S = 0.003


@dataclass(frozen=True, slots=True)
class Noted:
    """How far the engine was when a shard began or ended."""

    at_s: float
    cpu_s: float  # of the process that hears
    begins: bool
    num_live_steps: int


@dataclass(frozen=True)
class Diary:
    """A file that the process of an actor writes and the driver reads when all is over."""

    path: Path

    def kept_by(self, listener: TranscriberListener) -> "Keeping":
        return Keeping(listener, self)

    def note(self, begins: bool, num_live_steps: int) -> None:
        with self.path.open("a") as file:
            noted = Noted(time.time(), time.process_time(), begins, num_live_steps)
            file.write(json.dumps(asdict(noted)) + "\n")

    def read(self) -> list[Noted]:
        return [Noted(**json.loads(line)) for line in self.path.read_text().splitlines()]


class Keeping:
    """A listener that notes every beginning and end."""

    def __init__(self, listener: TranscriberListener, diary: Diary) -> None:
        self._listener, self._diary = listener, diary

    @property
    def has_died(self) -> bool:
        return self._listener.has_died

    @property
    def tally(self):
        return self._listener.tally

    async def hear(self, cut):
        self._diary.note(True, self.tally.num_live_steps)
        try:
            return await self._listener.hear(cut)
        finally:
            self._diary.note(False, self.tally.num_live_steps)


def paced_listener(diary: Diary, num_slots: int) -> Keeping:
    conversation = Conversation(
        frame_samples=FRAME_SAMPLES, prefix_frames=0, flush_frames=0, read_words=no_words
    )
    engine = stepping_engine(Paced(num_slots))
    once = GuardsConfig(max_retry_s=0.0)
    return diary.kept_by(
        TranscriberListener(Transcriber(engine, conversation), "stand-in", "", once)
    )


def no_words(clip, heard) -> list:
    return []


class Paced:
    """As a device would: rounds run one after the other while the host plans the next."""

    def __init__(self, num_slots: int) -> None:
        self.frame_samples, self.num_heads, self.bucket_sizes = FRAME_SAMPLES, 0, [num_slots]
        self._is_free_at_s = 0.0

    def encode(self, chunk) -> None:
        return None

    def move(self, sources, targets) -> None:
        return None

    def run(self, steps, codes) -> "PacedSaid":
        begins_at_s = max(self._is_free_at_s, time.monotonic())
        self._is_free_at_s = begins_at_s + steps.num_steps * STEP_S
        return PacedSaid(self._is_free_at_s, (steps.num_steps, steps.num_slots))


class PacedSaid:
    def __init__(self, done_at_s: float, shape: tuple[int, int]) -> None:
        self._done_at_s, self._shape = done_at_s, shape

    def wait(self) -> SimpleNamespace:
        time.sleep(max(self._done_at_s - time.monotonic(), 0.0))
        return SimpleNamespace(
            tokens_TS=np.zeros(self._shape, np.int32),
            confidences_TS=np.ones(self._shape, np.float32),
            heads_TSH=np.zeros((*self._shape, 0), np.float32),
        )
