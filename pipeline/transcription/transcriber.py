"""One model, no Ray: clips to words. What the cluster does is held against this."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Self

from nightscribe.engine.config import EngineConfig
from nightscribe.engine.loop import Engine, step_engine
from nightscribe.engine.speculative import speculative_engine
from nightscribe.engine.stream import Stream, StreamOutput
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import Checkpoint, open_model
from nightscribe.model.loading import load_speculative_runner, load_step_runner
from nightscribe.model.prompting import SpeechProcessor
from nightscribe.transcription.clips import Clip, Conversation, HeardClip, conversation
from nightscribe.transcription.requests import Order, Orders

__all__ = ["Clip", "HeardClip", "Transcriber"]


class Transcriber:
    """Keeps one engine busy with clips, in the caller's thread or in its own."""

    def __init__(self, engine: Engine, conversation: Conversation) -> None:
        self.engine = engine
        self._conversation = conversation
        self._orders = Orders(self._stream)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    @classmethod
    def load(cls, model: ModelConfig, engine: EngineConfig) -> Self:
        """Open a checkpoint and put it on the device, with as many slots as fit."""
        return cls.of(open_model(model), model, engine)

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: ModelConfig, engine: EngineConfig) -> Self:
        """As `load`, of a checkpoint that is open already."""
        interpreter = SpeechProcessor(
            config=checkpoint.config,
            tokenizer=checkpoint.tokenizer,
            domains=model.domains,
            default_domain=model.domain,
        )
        return cls(_engine(checkpoint, engine), conversation(interpreter))

    def transcribe(self, clips: Iterable[Clip]) -> Iterator[HeardClip]:
        """Yield each clip as it is finished; the next is pulled when a slot is free for it.

        Longest first keeps the slots busiest; the order is the caller's.
        """
        if self._thread is not None:
            raise RuntimeError("this transcriber works off what was submitted; submit more instead")
        orders = (Order(clip, Future()) for clip in clips)
        for heard in self.engine.run(map(self._stream, orders)):
            yield self._read(heard)

    def submit(self, clip: Clip) -> Future[HeardClip]:
        """Queue a clip for the engine's own thread."""
        future = self._orders.add(clip)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="nightscribe-engine", daemon=True
                )
                self._thread.start()
        return future

    @property
    def has_died(self) -> bool:
        """Whether the engine's thread ended with an error; nothing can be heard any more."""
        return self._orders.has_failed

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        self._orders.close()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            for heard in self.engine.run_source(self._orders):
                self._deliver(heard)
        except BaseException as error:
            self._orders.fail(error)

    def _deliver(self, heard: StreamOutput) -> None:
        try:
            answer = self._read(heard)
        except Exception as error:
            self._orders.finish(heard.stream.stream_id, error)
        else:
            self._orders.finish(heard.stream.stream_id, answer)

    def _stream(self, order: Order) -> Stream:
        return self._conversation.stream(order, order.clip)

    def _read(self, heard: StreamOutput) -> HeardClip:
        clip = heard.stream.stream_id.clip
        words = self._conversation.read_words(clip, heard)
        turn_ends_s = tuple(self._conversation.turn_ends_s(clip, heard, words))
        return HeardClip(
            clip.clip_id, words, heard.tokens_T, heard.confidences_T, heard.vad_TH, turn_ends_s
        )


def _engine(checkpoint: Checkpoint, config: EngineConfig) -> Engine:
    if (config.frames_per_pass or 1) > 1:
        leaping = load_speculative_runner(checkpoint, config)
        return speculative_engine(leaping, reproducible=config.reproducible)
    stepping = load_step_runner(checkpoint, config)
    return step_engine(stepping, round_steps=config.round_steps, reproducible=config.reproducible)
