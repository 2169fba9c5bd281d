"""A thread that steps a batch: texts are opened, continued and cancelled from any thread.

N samples.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from nightscribe.errors import NightscribeError
from nightscribe.speech.batch import Batch
from nightscribe.speech.requests import SpeechRequest, SpokenWord
from nightscribe.speech.utterance import Utterance

log = logging.getLogger(__name__)


class SpeechEngineError(NightscribeError):
    """The engine has ended, and every text in it."""

    fault = "environment"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpeechOutput:
    """What is new of one text."""

    samples_N: NDArray[np.float32]
    words: tuple[SpokenWord, ...] = ()  # whose end is known, with breaks
    num_steps: int = 0  # so far
    is_last: bool = False
    error: NightscribeError | None = None  # why it is the last one, if the text was not spoken


@dataclass(slots=True, eq=False)
class SpeechStream:
    """One text on its way through the engine."""

    request: SpeechRequest
    on_output: Callable[[SpeechOutput], None]  # called in the engine's thread
    may_begin: Callable[[], bool]  # asked when a slot is free for it
    frames_per_piece: int
    is_whole: bool
    text: list[tuple[str, int]] = field(default_factory=list)  # that came before it had a slot
    utterance: Utterance | None = None


@dataclass(slots=True)
class SpeechStats:
    """Of an engine."""

    num_slots: int
    slots_busy: float = 0.0
    num_steps: int = 0
    num_slot_steps: int = 0
    num_live_steps: int = 0
    busy_s: float = 0.0


def _always() -> bool:
    return True


class SpeechEngine:
    """Runs until `close`; a text that waits for more words keeps its slot."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waiting: deque[SpeechStream] = deque()
        self._running: dict[Utterance, SpeechStream] = {}
        self._is_idle, self._is_closed = True, False
        self.has_died = False
        self.stats = SpeechStats(batch.num_slots)
        self._thread = threading.Thread(target=self._run, name="nightscribe-speech", daemon=True)
        self._thread.start()

    @property
    def num_slots(self) -> int:
        return self.stats.num_slots

    def open(
        self,
        request: SpeechRequest,
        on_output: Callable[[SpeechOutput], None],
        *,
        frames_per_piece: int = 1,
        is_whole: bool = True,
        may_begin: Callable[[], bool] = _always,
    ) -> SpeechStream:
        """Queue a text; one that is not whole is continued by `append` and ended by `finish`.

        Its turns may be empty if the text is not whole.
        """
        stream = SpeechStream(request, on_output, may_begin, frames_per_piece, is_whole)
        self._command(partial(self._open, stream))
        return stream

    def append(self, stream: SpeechStream, text: str, speaker: int = 0) -> None:
        """Whole words of a speaker, 0 or 1, that follow what a text has."""
        self._command(partial(self._append, stream, text, speaker))

    def finish(self, stream: SpeechStream) -> None:
        """No words will follow."""
        self._command(partial(self._finish, stream))

    def cancel(self, stream: SpeechStream) -> None:
        """Forget a text, wherever it is; nothing more is said about it."""
        self._command(partial(self._cancel, stream))

    def close(self) -> None:
        """End the thread; texts that are not spoken yet never are."""
        self._commands.put(self._close)
        self._thread.join()

    def _command(self, command: Callable[[], None]) -> None:
        if self.has_died:
            raise SpeechEngineError("the engine of text to speech has ended")
        self._commands.put(command)

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._obey()
                began_s = time.monotonic()
                moved = self._batch.step()
                for utterance in moved:
                    self._tell(utterance)
                self._is_idle = self._batch.is_idle
                if moved:
                    self._count(time.monotonic() - began_s)
        except BaseException as error:
            log.exception("the engine of text to speech has ended")
            self._die(f"{type(error).__name__}: {error}")

    def _obey(self) -> None:
        """Follow the commands that have come; without anything to do, wait for one."""
        # When all texts end in one step, others may still wait for a slot.
        may_wait = self._is_idle and (not self._waiting or self._batch.is_full)
        while not self._is_closed:
            try:
                self._commands.get(may_wait)()
            except Empty:
                break
            may_wait = False
        while self._waiting and not self._batch.is_full:
            self._begin(self._waiting.popleft())

    def _open(self, stream: SpeechStream) -> None:
        self._waiting.append(stream)

    def _begin(self, stream: SpeechStream) -> None:
        if not stream.may_begin():
            return
        try:
            utterance = self._batch.begin(stream.request, stream.frames_per_piece, False)
            stream.utterance, self._running[utterance] = utterance, stream
            for text, speaker in stream.text:
                self._batch.extend(utterance, text, speaker)
            utterance.is_whole = stream.is_whole
        except NightscribeError as error:
            self._fail(stream, error)

    def _append(self, stream: SpeechStream, text: str, speaker: int) -> None:
        if stream.utterance is None:
            stream.text.append((text, speaker))
            return
        try:
            self._batch.extend(stream.utterance, text, speaker)
        except NightscribeError as error:
            self._fail(stream, error)

    def _finish(self, stream: SpeechStream) -> None:
        stream.is_whole = True
        if stream.utterance is not None:
            stream.utterance.is_whole = True

    def _cancel(self, stream: SpeechStream) -> None:
        if stream in self._waiting:
            self._waiting.remove(stream)
        self._forget(stream)

    def _forget(self, stream: SpeechStream) -> None:
        if stream.utterance is not None:
            self._batch.remove(stream.utterance)
            self._running.pop(stream.utterance, None)

    def _fail(self, stream: SpeechStream, error: NightscribeError) -> None:
        self._forget(stream)
        stream.on_output(_failed(error))

    def _tell(self, utterance: Utterance) -> None:
        stream, batch = self._running[utterance], self._batch
        is_last = utterance.is_complete
        samples_N = utterance.take_samples()
        words = tuple(batch.word_of(utterance, fed) for fed in utterance.take_fed())
        if is_last:
            self._forget(stream)
        if is_last or words or len(samples_N):
            output = SpeechOutput(
                samples_N=samples_N,
                words=words,
                num_steps=utterance.num_steps,
                is_last=is_last,
            )
            stream.on_output(output)

    def _count(self, busy_s: float) -> None:
        stats, batch = self.stats, self._batch
        stats.num_steps += 1
        stats.busy_s += busy_s
        stats.num_slot_steps, stats.num_live_steps = batch.num_slot_steps, batch.num_live_steps
        stats.slots_busy = float(len(batch.running))

    def _close(self) -> None:
        self._is_closed = True

    def _die(self, reason: str) -> None:
        self.has_died = True
        error = SpeechEngineError(f"the engine of text to speech has ended: {reason}")
        for stream in [*self._running.values(), *self._waiting]:
            stream.on_output(_failed(error))


def _failed(error: NightscribeError) -> SpeechOutput:
    return SpeechOutput(samples_N=np.zeros(0, np.float32), is_last=True, error=error)
