"""What protocols of text to speech share: the engine in its thread, and a text of a client."""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
from nightscribe.serving.access import Access
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.speech_metrics import SpeechMetrics
from nightscribe.serving.websockets import ClientSocket, going_away, one_of
from nightscribe.speech.batch import Speaker
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig
from nightscribe.speech.engine import SpeechEngine, SpeechOutput, SpeechStream
from nightscribe.speech.requests import SpeechRequest
from nightscribe.speech.synthesizer import Synthesizer
from nightscribe.speech.voices import Voices

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """Which model speaks, and with which voice where a client names none."""

    tts: SpeechModelConfig
    speech: SpeechConfig
    voice: str


class NoFreeSlotError(NightscribeError):
    """Every slot has a text."""

    fault = "environment"


@dataclass(slots=True, eq=False, kw_only=True)
class SpeechBackend:
    """The engine and what belongs to all texts."""

    config: ServingConfig
    decode: DecodeConfig
    access: Access
    metrics: SpeechMetrics
    speaker: Speaker
    engine: SpeechEngine
    default_voice: str
    sample_rate_hz: int
    frame_rate_hz: float
    model_name: str
    is_draining: bool = False
    sockets: set[ClientSocket] = field(default_factory=set)  # of texts that are being spoken
    num_open: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def voices(self) -> Voices:
        return self.speaker.voices

    @property
    def num_slots(self) -> int:
        return self.engine.stats.num_slots

    @property
    def is_busy(self) -> bool:
        return self.num_open > 0

    @property
    def health(self) -> str:
        """What is wrong with the engine, if anything is."""
        return "the engine of text to speech has ended" if self.engine.has_died else ""

    def check_free(self) -> None:
        """Raises NoFreeSlotError if a new text would have to wait."""
        if self.num_open >= self.num_slots:
            raise NoFreeSlotError("no free channels")

    def new_id(self) -> str:
        return f"text-{next(self._numbers)}"

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a text among those that are being spoken or wait."""
        self.num_open += 1
        self.metrics.open_texts.set(self.num_open)
        try:
            yield
        finally:
            self.num_open -= 1
            self.metrics.open_texts.set(self.num_open)

    def live(self, socket: ClientSocket) -> AbstractContextManager[None]:
        """Count a socket among those that shutdown waits for."""
        return one_of(self.sockets, socket)

    async def fetch_voice(self, name: str) -> None:
        """Find a client's voice before its text needs a slot; raises CheckpointError if none.

        A client names voices of the repository, no other files of this machine or of the hub.
        """
        try:
            await asyncio.to_thread(self.voices.published, name)
        except CheckpointError as error:
            log.info("no such voice", extra={"reason": str(error.__cause__)[:300]})
            raise

    def end_sessions(self) -> None:
        for socket in list(self.sockets):
            socket.fail(going_away())

    async def stop(self) -> None:
        await asyncio.to_thread(self.engine.close)


@dataclass(slots=True, eq=False)
class SpokenText:
    """One text of a client: what it sends goes in, what is spoken comes out."""

    backend: SpeechBackend
    voices: tuple[str, ...]
    seed: int = 0
    first_sound_s: float | None = None  # from the first text
    num_samples: int = 0
    _stream: SpeechStream | None = None
    _began_s: float | None = None
    _outputs: asyncio.Queue[SpeechOutput] = field(default_factory=asyncio.Queue)

    @property
    def has_text(self) -> bool:
        return self._stream is not None

    def append(self, text: str) -> None:
        """Whole words."""
        if self._stream is None:
            self._open(
                SpeechRequest(
                    request_id=self.backend.new_id(), turns=(), voices=self.voices, seed=self.seed
                ),
                is_whole=False,
            )
        assert self._stream is not None
        self.backend.engine.append(self._stream, text)

    def speak(self, text: str) -> None:
        """All of the text at once."""
        request = SpeechRequest(
            request_id=self.backend.new_id(), turns=(text,), voices=self.voices, seed=self.seed
        )
        self._open(request, is_whole=True)

    def finish(self) -> None:
        """No more text will come."""
        if self._stream is not None:
            self.backend.engine.finish(self._stream)

    def cancel(self) -> None:
        if self._stream is not None and not self.backend.engine.has_died:
            self.backend.engine.cancel(self._stream)

    async def outputs(self) -> AsyncIterator[SpeechOutput]:
        """Until the last; raises the NightscribeError of a text that cannot be spoken."""
        while True:
            output = await self._outputs.get()
            if output.error is not None:
                raise output.error
            self._count(output)
            yield output
            if output.is_last:
                return

    def _open(self, request: SpeechRequest, is_whole: bool) -> None:
        loop, outputs = asyncio.get_running_loop(), self._outputs

        def receive(output: SpeechOutput) -> None:
            loop.call_soon_threadsafe(outputs.put_nowait, output)

        self._began_s = time.monotonic()
        self._stream = self.backend.engine.open(request, receive, is_whole=is_whole)

    def _count(self, output: SpeechOutput) -> None:
        num_samples = len(output.samples_N)
        if num_samples and self.first_sound_s is None and self._began_s is not None:
            self.first_sound_s = time.monotonic() - self._began_s
            self.backend.metrics.first_sound.observe(self.first_sound_s)
        self.num_samples += num_samples
        self.backend.metrics.audio_s.add(num_samples / self.backend.sample_rate_hz)

    def log_end(self, protocol: str, reason: str) -> None:
        """One line, without the text."""
        self.backend.metrics.ends.add(reason)
        first_s = None if self.first_sound_s is None else round(self.first_sound_s, 3)
        fields = {
            "protocol": protocol,
            "reason": reason,
            "first_sound_s": first_s,
            "audio_s": round(self.num_samples / self.backend.sample_rate_hz, 2),
        }
        log.info("text ended", extra=fields)


def load_speech(
    settings: SpeechSettings, config: ServingConfig, decode: DecodeConfig
) -> SpeechBackend:
    """Load the model; returns when it can speak. Raises for a default voice that is none."""
    checkpoint = open_speech_checkpoint(settings.tts.checkpoint)
    mimi = checkpoint.config.mimi

    def read_audio(path: Path) -> NDArray[np.int16]:
        return read_waveform(path, decode, mimi.sample_rate_hz)[0]

    voices = Voices(checkpoint, settings.tts.voices, read_audio)
    voices[settings.voice]
    synthesizer = Synthesizer.load(checkpoint, voices, settings.speech, settings.tts.guidance)
    return SpeechBackend(
        config=config,
        decode=decode,
        access=Access(config),
        metrics=SpeechMetrics(),
        speaker=synthesizer.speaker,
        engine=SpeechEngine(synthesizer.batch()),
        default_voice=settings.voice,
        sample_rate_hz=mimi.sample_rate_hz,
        frame_rate_hz=mimi.frame_rate_hz,
        model_name=checkpoint.name,
    )
