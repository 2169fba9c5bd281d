"""Texts in, audio files in a store out: what a worker of a run has instead of a transcriber.

N samples.
"""

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.encode import write_audio
from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
from nightscribe.model.tts.conditioning import ConditionError
from nightscribe.model.tts.script import ScriptError
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig
from nightscribe.speech.engine import SpeechEngine, SpeechOutput, SpeechStats
from nightscribe.speech.requests import FileTask, NotSpokenError, SpokenFile, SpokenWord
from nightscribe.speech.synthesizer import FRAMES_PER_PIECE, Synthesizer
from nightscribe.speech.voices import ReadAudio, Voices
from nightscribe.storage.store import Store

HELPERS = 4  # threads that fetch voices, encode and write


_REASONS = {ScriptError: "bad_text", CheckpointError: "bad_voice", ConditionError: "bad_condition"}


@dataclass(slots=True, eq=False)
class _Spoken:
    """What has come of one text."""

    task: FileTask
    result: Future[SpokenFile]
    pieces: list[NDArray[np.float32]] = field(default_factory=list)
    words: list[SpokenWord] = field(default_factory=list)


class FileSpeaker:
    """Speaks texts that are submitted, and writes each as a file before it answers."""

    def __init__(self, synthesizer: Synthesizer, store: Store, model: str, revision: str) -> None:
        self.model, self.model_revision = model, revision
        self._rate_hz = synthesizer.sample_rate_hz
        self._voices, self._store = synthesizer.speaker.voices, store
        self._engine = SpeechEngine(synthesizer.batch())
        self._helpers = ThreadPoolExecutor(HELPERS, "nightscribe-files")

    @classmethod
    def load(
        cls, tts: SpeechModelConfig, speech: SpeechConfig, read_audio: ReadAudio, store: Store
    ) -> Self:
        """Open a checkpoint and load it onto the device."""
        checkpoint = open_speech_checkpoint(tts.checkpoint)
        voices = Voices(checkpoint, tts.voices, read_audio)
        synthesizer = Synthesizer.load(checkpoint, voices, speech, tts.guidance)
        return cls(synthesizer, store, checkpoint.name, checkpoint.revision)

    @property
    def has_died(self) -> bool:
        return self._engine.has_died

    @property
    def stats(self) -> SpeechStats:
        return self._engine.stats

    def submit(self, task: FileTask) -> Future[SpokenFile]:
        """Queue a text; a NotSpokenError says what is wrong with it."""
        spoken = _Spoken(task, Future())
        self._helpers.submit(self._prepare, spoken)
        return spoken.result

    def _prepare(self, spoken: _Spoken) -> None:
        """Fetch its voices here, so that no slot waits for them."""
        try:
            for name in spoken.task.request.voices:
                self._voices[name]
            self._engine.open(
                spoken.task.request,
                partial(self._receive, spoken),
                frames_per_piece=FRAMES_PER_PIECE,
                may_begin=spoken.result.set_running_or_notify_cancel,
            )
        except NightscribeError as error:
            self._fail(spoken, error)
        except Exception as error:
            spoken.result.set_exception(error)

    def _receive(self, spoken: _Spoken, output: SpeechOutput) -> None:
        spoken.pieces.append(output.samples_N)
        spoken.words += [word for word in output.words if not word.is_break]
        if output.error is not None:
            self._fail(spoken, output.error)
        elif output.is_last:
            self._helpers.submit(self._write, spoken, output.num_steps)

    def _fail(self, spoken: _Spoken, error: NightscribeError) -> None:
        if spoken.result.running() or spoken.result.set_running_or_notify_cancel():
            reason = _REASONS.get(type(error), "not_spoken")
            spoken.result.set_exception(NotSpokenError(reason, str(error)))

    def _write(self, spoken: _Spoken, num_steps: int) -> None:
        try:
            samples_N = np.concatenate(spoken.pieces)
            self._store_audio(spoken.task.key, samples_N)
            made = SpokenFile(
                words=tuple(spoken.words),
                sample_rate_hz=self._rate_hz,
                num_samples=len(samples_N),
                num_steps=num_steps,
            )
            spoken.result.set_result(made)
        except Exception as error:
            spoken.result.set_exception(error)

    def _store_audio(self, key: str, samples_N: NDArray[np.float32]) -> None:
        with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
            path = Path(folder) / f"speech{Path(key).suffix}"
            write_audio(path, samples_N, self._rate_hz)
            self._store.upload(path, key)
