"""Text that is still being written, spoken while it comes.

N samples.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from nightscribe.speech.engine import SpeechEngine, SpeechOutput, SpeechStream
from nightscribe.speech.requests import SpeechRequest
from nightscribe.speech.synthesizer import Synthesizer
from nightscribe.speech.texts import SPEAKER_CHANGE
from nightscribe.speech.word_buffer import WordBuffer

END_OF_TEXT = "\0"  # between pieces: what follows is another text


def live_speech(
    synthesizer: Synthesizer, voices: tuple[str, ...], seed: int, pieces: Iterable[str]
) -> Iterator[NDArray[np.float32]]:
    """Samples of the texts that the pieces make, as soon as they are known.

    Raises NightscribeError for a text that cannot be spoken.
    """
    engine, outputs = SpeechEngine(synthesizer.batch()), SimpleQueue[SpeechOutput | None]()
    writer = _Writer(engine, outputs, voices, seed)
    threading.Thread(target=writer.write, args=(pieces,), name="text", daemon=True).start()
    num_ended = 0
    try:
        # The writer says None once, when it has opened the last text.
        while not writer.has_ended or num_ended < writer.num_opened:
            output = outputs.get()
            if output is None:
                continue
            if output.error is not None:
                raise output.error
            num_ended += output.is_last
            if len(output.samples_N):
                yield output.samples_N
    finally:
        engine.close()


@dataclass(slots=True, eq=False)
class _Writer:
    """Cuts pieces into whole words, speakers and texts."""

    engine: SpeechEngine
    outputs: SimpleQueue
    voices: tuple[str, ...]
    seed: int
    num_opened: int = 0
    has_ended: bool = False
    _speaker: int = 0
    _stream: SpeechStream | None = None
    _words: WordBuffer = field(default_factory=WordBuffer)

    def write(self, pieces: Iterable[str]) -> None:
        try:
            for piece in pieces:
                if piece == END_OF_TEXT:
                    self._end_text()
                else:
                    self._append(piece)
            self._end_text()
        finally:
            self.has_ended = True
            self.outputs.put(None)

    def _append(self, piece: str) -> None:
        before, *turns = piece.split(SPEAKER_CHANGE)
        self._say(self._words.add(before))
        for turn in turns:
            self._say(self._words.take_rest())
            self._speaker = 1 - self._speaker
            self._say(self._words.add(turn))

    def _say(self, words: str) -> None:
        if not words.strip():
            return
        if self._stream is None:
            request = SpeechRequest(
                request_id=f"{self.num_opened}", turns=(), voices=self.voices, seed=self.seed
            )
            self.num_opened += 1
            self._stream = self.engine.open(request, self.outputs.put, is_whole=False)
        self.engine.append(self._stream, words, self._speaker)

    def _end_text(self) -> None:
        self._say(self._words.take_rest())
        if self._stream is not None:
            self.engine.finish(self._stream)
        self._stream, self._speaker = None, 0
