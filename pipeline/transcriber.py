"""One model, no Ray: clips to words. What the cluster does is held against this.

Knows how a clip becomes a stream (what is said and heard before it, silence around it) and how
what was heard becomes words.
Does not know files, recordings or shards.
"""

# N samples, T steps, H extra heads

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Self

import numpy as np

from pipeline.engine.config import EngineConfig
from pipeline.engine.engine import Engine, ScheduleConfig
from pipeline.engine.leaping import LeapingEngine
from pipeline.engine.stream import Heard, Stream
from pipeline.model.checkpoints.model_config import ModelConfig
from pipeline.model.checkpoints.open import Checkpoint, open_model
from pipeline.model.conversation import Interpreter, Prompt
from pipeline.model.decoding import Script
from pipeline.model.loading import load_leaping, load_slotted
from pipeline.records import Word


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Sound to transcribe: int16 at the model's rate."""

    clip_id: str
    samples_N: np.ndarray = field(repr=False)
    domain: str | None = None
    prompt: Prompt | None = None  # its own domain, if it names one, goes before the clip's
    temperature: float = 0.0  # at which tokens are drawn; 0 always says the likeliest
    seed: int = 0

    def __post_init__(self) -> None:
        found = f"{self.samples_N.dtype} of shape {self.samples_N.shape}"
        if self.samples_N.dtype != np.int16 or self.samples_N.ndim != 1:
            raise ValueError(f"clip {self.clip_id!r}: expected a row of int16 samples, got {found}")
        if not len(self.samples_N):
            raise ValueError(f"clip {self.clip_id!r} has no samples")
        if self.temperature < 0:
            raise ValueError(f"clip {self.clip_id!r} has temperature {self.temperature}, below 0")


@dataclass(frozen=True, slots=True, eq=False)
class HeardClip:
    """Words in seconds of the clip, and what the model said at every step."""

    clip_id: str
    words: list[Word]
    tokens_T: np.ndarray  # step 0 hears nothing, step p the frame p - 1 of prefix, clip and flush
    confidences_T: np.ndarray
    vad_TH: np.ndarray  # H is 0 for models without extra heads
    turn_ends_s: tuple[float, ...] = ()  # where the heads hear a speaker finish

    @property
    def num_steps(self) -> int:
        return len(self.tokens_T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """How a model is spoken to, and how its answer is read."""

    frame_samples: int
    prefix_frames: int
    flush_frames: int
    read_words: Callable[[Clip, Heard], list[Word]]
    script: Callable[[Clip], Script] = lambda clip: Script()
    heard_samples: Callable[[Clip], np.ndarray] = lambda clip: clip.samples_N
    turn_ends_s: Callable[[Clip, Heard, list[Word]], list[float]] = lambda clip, heard, words: []

    def padded(self, clip: Clip) -> tuple["PaddedSamples", int]:
        """The clip and the sound of its prompt between silences, and the frames of it all."""
        samples_N = self.heard_samples(clip)
        num_frames = self.prefix_frames + -(-len(samples_N) // self.frame_samples)
        num_frames += self.flush_frames
        offset, end = self.prefix_frames * self.frame_samples, num_frames * self.frame_samples
        return PaddedSamples(samples_N, offset, end), num_frames

    def stream(self, stream_id: Any, clip: Clip) -> Stream:
        """The clip as the engine takes it."""
        samples, num_frames = self.padded(clip)
        script = self.script(clip)
        return Stream(
            stream_id,
            samples,
            num_frames,
            forced_tokens=script.forced_tokens,
            prompt_tokens=script.prompt_tokens,
            temperature=clip.temperature,
            seed=clip.seed,
        )


def conversation(interpreter: Interpreter) -> Conversation:
    """The conversation that a checkpoint's interpreter holds with each clip."""

    def prompt_of(clip: Clip) -> Prompt:
        usual = interpreter.prompt(clip.domain)
        if clip.prompt is None:
            return usual
        return replace(clip.prompt, domain=clip.prompt.domain or usual.domain)

    def read_words(clip: Clip, heard: Heard) -> list[Word]:
        return interpreter.words(
            heard.tokens_T.tolist(),
            heard.confidences_T.tolist(),
            len(clip.samples_N),
            prompt_of(clip),
        )

    def turn_ends_s(clip: Clip, heard: Heard, words: list[Word]) -> list[float]:
        num_samples = len(clip.samples_N)
        return interpreter.turn_ends_s(heard.heads_TH, words, num_samples, prompt_of(clip))

    return Conversation(
        frame_samples=interpreter.config.mimi.frame_samples,
        prefix_frames=interpreter.config.prefix_frames,
        flush_frames=interpreter.config.flush_frames,
        read_words=read_words,
        turn_ends_s=turn_ends_s,
        script=lambda clip: interpreter.script(prompt_of(clip)),
        heard_samples=lambda clip: interpreter.heard_samples(clip.samples_N, prompt_of(clip)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class PaddedSamples:
    """Samples with silence before and after, joined only where they are cut."""

    samples_N: np.ndarray
    offset: int
    num_samples: int

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(self.num_samples)
        inside = self.samples_N[max(start - self.offset, 0) : max(stop - self.offset, 0)]
        before = min(max(self.offset - start, 0), stop - start)
        return np.pad(inside, (before, stop - start - before - len(inside)))


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """A clip and who waits for it; identifies its stream."""

    clip: Clip
    future: Future[HeardClip]


class Transcriber:
    """Keeps one engine busy with clips, in the caller's thread or in its own."""

    def __init__(self, engine: Engine | LeapingEngine, conversation: Conversation) -> None:
        self.engine = engine
        self._conversation = conversation
        self._orders = _Orders(self._stream)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    @classmethod
    def load(cls, model: ModelConfig, engine: EngineConfig) -> Self:
        """Open a checkpoint and put it on the device, with as many slots as fit."""
        return cls.of(open_model(model), model, engine)

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: ModelConfig, engine: EngineConfig) -> Self:
        """As `load`, of a checkpoint that is open already."""
        interpreter = Interpreter(
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
        orders = (_Order(clip, Future()) for clip in clips)
        for heard in self.engine.hear(map(self._stream, orders)):
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
            for heard in self.engine.hear_source(self._orders):
                self._deliver(heard)
        except BaseException as error:
            self._orders.fail(error)

    def _deliver(self, heard: Heard) -> None:
        try:
            answer = self._read(heard)
        except Exception as error:
            self._orders.finish(heard.stream.stream_id, error)
        else:
            self._orders.finish(heard.stream.stream_id, answer)

    def _stream(self, order: _Order) -> Stream:
        return self._conversation.stream(order, order.clip)

    def _read(self, heard: Heard) -> HeardClip:
        clip = heard.stream.stream_id.clip
        words = self._conversation.read_words(clip, heard)
        turn_ends_s = tuple(self._conversation.turn_ends_s(clip, heard, words))
        return HeardClip(
            clip.clip_id, words, heard.tokens_T, heard.confidences_T, heard.heads_TH, turn_ends_s
        )


def _engine(checkpoint: Checkpoint, config: EngineConfig) -> Engine | LeapingEngine:
    if config.frames_per_pass > 1:
        leaping = load_leaping(checkpoint, config)
        return LeapingEngine(leaping, reproducible=config.reproducible)
    schedule = ScheduleConfig(round_steps=config.round_steps, reproducible=config.reproducible)
    return Engine(load_slotted(checkpoint, config), schedule)


class _Orders:
    """Submitted clips, as a source of streams that may run dry for a while."""

    def __init__(self, stream_of: Callable[[_Order], Stream]) -> None:
        self._stream_of = stream_of
        self._waiting: SimpleQueue[_Order | None] = SimpleQueue()
        self._open: set[_Order] = set()
        self._error: BaseException | None = None
        self._is_closed = False
        self._changing = threading.Lock()

    def add(self, clip: Clip) -> Future[HeardClip]:
        order = _Order(clip, Future())
        with self._changing:
            if self._is_closed:
                raise RuntimeError("the transcriber is closed") from self._error
            self._open.add(order)
            self._waiting.put(order)
        return order.future

    def take(self, *, wait: bool) -> Stream | None:
        while (order := self._next(wait)) is not None:
            if not order.future.set_running_or_notify_cancel():
                self._open.discard(order)
                continue
            try:
                return self._stream_of(order)
            except Exception as error:
                self.finish(order, error)
        return None

    def _next(self, wait: bool) -> _Order | None:
        try:
            order = self._waiting.get(block=wait)
        except Empty:
            return None
        if order is None:  # closed: the sign stays for the next who asks
            self._waiting.put(None)
        return order

    def finish(self, order: _Order, outcome: HeardClip | BaseException) -> None:
        self._open.discard(order)
        if isinstance(outcome, BaseException):
            order.future.set_exception(outcome)
        else:
            order.future.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        """Nobody works any more: tell everyone who waits."""
        with self._changing:
            self._is_closed, self._error = True, error
        for order in list(self._open):
            if order.future.running() or order.future.set_running_or_notify_cancel():
                self.finish(order, error)

    @property
    def has_failed(self) -> bool:
        return self._error is not None

    def close(self) -> None:
        with self._changing:
            self._is_closed = True
            self._waiting.put(None)
