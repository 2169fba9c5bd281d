"""One model on one device, without Ray: clips in, final words out.

Stalls are retried in here, so that a worker of the cluster and a single file get the same words
from the same call.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np

from nightscribe.engine.config import EngineConfig
from nightscribe.engine.loop import Engine, EngineStats, step_engine
from nightscribe.engine.speculative import speculative_engine
from nightscribe.engine.stream import Stream, StreamOutput
from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.confirmed_speech import confirmed_speech
from nightscribe.guards.speech_activity import speech_spans
from nightscribe.guards.stall_retry import RetryResult, retry_stalls
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import Checkpoint, open_model
from nightscribe.model.device import device_of
from nightscribe.model.loading import load_speculative_runner, load_step_runner
from nightscribe.model.prompting import Prompt, SpeechProcessor
from nightscribe.model.sampling import TokenConstraints
from nightscribe.model.term_bias import MAX_EDGES, TermTrie
from nightscribe.model.terms_config import Terms
from nightscribe.model.tokenizer import Tokenizer
from nightscribe.records import Voice, Word
from nightscribe.speakers.activity_network import load_hearing
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.voices import load_listener
from nightscribe.transcription.clips import Clip, ClipTranscript
from nightscribe.transcription.requests import ListedRequests, Pass, RequestQueue, Retries

__all__ = ["Clip", "ClipAdapter", "ClipTranscript", "Transcriber", "clip_adapter"]


# The voices in a row of samples.
Listener = Callable[[np.ndarray], tuple[Voice, ...]]
# How long the thread of the engine waits for the interpreter while another thread is busy in it; it
# lets go of the interpreter at every call into CUDA. Python's default is 0.005.
SWITCH_INTERVAL_S = 0.0005
# Recordings of one archive often share their terms.
KEPT_TRIES = 1024


class Transcriber:
    """Transcribes clips on one engine, in the caller's thread or in a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        adapter: "ClipAdapter",
        guards: GuardsConfig | None = None,
        *,
        model: str = "",
        model_revision: str = "",
        listener: Listener | None = None,
    ) -> None:
        """Without `guards` no stall is retried, without a listener there are no voices."""
        self.engine, self.model, self.model_revision = engine, model, model_revision
        self._adapter, self._guards = adapter, guards
        self._queue = RequestQueue(self._stream)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._listener = listener
        # One thread, beside that of the engine: voices are small work between large steps.
        self._listening = ThreadPoolExecutor(1, "nightscribe-voices") if listener else None

    @classmethod
    def load(
        cls,
        model: ModelConfig,
        engine: EngineConfig,
        guards: GuardsConfig | None = None,
        speakers: SpeakersConfig | None = None,
        terms: Terms | None = None,
    ) -> Self:
        """Open a checkpoint and load it onto the device, with as many slots as fit."""
        return cls.from_checkpoint(open_model(model), model, engine, guards, speakers, terms)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        model: ModelConfig,
        engine: EngineConfig,
        guards: GuardsConfig | None = None,
        speakers: SpeakersConfig | None = None,
        terms: Terms | None = None,
    ) -> Self:
        """Like `load`, for a checkpoint that is already open."""
        processor = SpeechProcessor(
            config=checkpoint.config,
            tokenizer=checkpoint.tokenizer,
            domains=model.domains,
            default_domain=model.domain,
        )
        adapter = clip_adapter(processor, has_terms=terms is not None and terms.are_in_clips)
        # Before the engine takes what is left of the memory.
        listener = load_listener(speakers, device_of(engine.device), adapter.sample_rate_hz)
        return cls(
            _engine(checkpoint, engine, terms),
            adapter,
            guards,
            model=model.name,
            model_revision=checkpoint.revision,
            listener=listener,
        )

    def transcribe(self, clips: Iterable[Clip]) -> Iterator[ClipTranscript]:
        """Yield each clip as it is finished; the next one is pulled when a slot is free for it.

        Longest first keeps the slots busiest; the order is up to the caller.
        """
        if self._thread is not None:
            raise RuntimeError("this transcriber already serves submitted clips; submit these too")
        source = ListedRequests(map(self._with_speech, clips), self._stream)
        for output in self.engine.run_source(source):
            finished = self._advance(output, source)
            if finished is not None:
                clip = output.stream.stream_id.request.clip
                yield (
                    replace(finished, voices=self._listener(clip.samples_N))
                    if (self._listener)
                    else finished
                )

    def submit(self, clip: Clip) -> Future[ClipTranscript]:
        """Queue a clip for the engine's own thread."""
        future = self._queue.add(self._with_speech(clip))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="nightscribe-engine", daemon=True
                )
                self._thread.start()
        if self._listener is None or self._listening is None:
            return future
        return _with_voices(future, self._listening.submit(self._listener, clip.samples_N))

    @property
    def stats(self) -> EngineStats:
        """What the engine has done so far."""
        return self.engine.stats

    @property
    def has_died(self) -> bool:
        """Whether the engine's thread ended with an error; no clip can be transcribed any more."""
        return self._queue.has_failed

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        self._queue.close()
        if self._thread is not None:
            self._thread.join()
        if self._listening is not None:
            self._listening.shutdown()

    def _serve(self) -> None:
        """Words are read in another thread: the engine's has the next round to plan meanwhile."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            with ThreadPoolExecutor(1, "nightscribe-words") as words:
                for output in self.engine.run_source(self._queue):
                    words.submit(self._deliver, output)
        except BaseException as error:
            self._queue.fail(error)

    def _deliver(self, output: StreamOutput) -> None:
        request = output.stream.stream_id.request
        try:
            finished = self._advance(output, self._queue)
        except Exception as error:
            self._queue.finish(request, error)
        else:
            if finished is not None:
                self._queue.finish(request, finished)

    def _advance(
        self, output: StreamOutput, source: ListedRequests | RequestQueue
    ) -> ClipTranscript | None:
        """The final transcript of a clip; None if another pass over it was queued."""
        ended: Pass = output.stream.stream_id
        transcript = self._read(ended.clip, output)
        if ended.request.retries is None:
            transcript = self._with_confirmed_speech(transcript, ended.clip)
        result = ended.request.advance(transcript, self._retry_stalls)
        if isinstance(result, ClipTranscript):
            return result
        source.retry(Pass(ended.request, result))
        return None

    def _stream(self, begun: Pass) -> Stream:
        return self._adapter.stream(begun, begun.clip)

    def _read(self, clip: Clip, output: StreamOutput) -> ClipTranscript:
        words = self._adapter.read_words(clip, output)
        return ClipTranscript(
            clip_id=clip.clip_id,
            words=tuple(words),
            tokens_T=output.tokens_T,
            confidences_T=output.confidences_T,
            vad_TH=output.vad_TH,
            turn_ends_s=tuple(self._adapter.turn_ends_s(clip, output, words)),
            speech=clip.speech or (),
        )

    def _with_speech(self, clip: Clip) -> Clip:
        if self._guards is None or clip.speech is not None:
            return clip
        rate_hz = self._adapter.sample_rate_hz
        return replace(clip, speech=speech_spans(clip.samples_N, rate_hz, self._guards))

    def _with_confirmed_speech(self, transcript: ClipTranscript, clip: Clip) -> ClipTranscript:
        """Without the music and noise that is as loud as speech, where no words are."""
        if self._guards is None or not self._guards.min_confirmed_speech:
            return transcript
        rate_hz = self._adapter.sample_rate_hz
        speech = confirmed_speech(
            clip.samples_N,
            rate_hz,
            transcript.words,
            transcript.speech,
            self._guards,
            load_hearing(rate_hz),
        )
        return replace(transcript, speech=speech)

    def _retry_stalls(self, first_pass: ClipTranscript, clip: Clip) -> Retries:
        if self._guards is None:
            return _no_retries(first_pass)
        return retry_stalls(
            clip.samples_N,
            self._adapter.sample_rate_hz,
            first_pass.words,
            first_pass.speech,
            self._guards,
        )


def _with_voices(
    transcribed: Future[ClipTranscript], embedded: Future[tuple[Voice, ...]]
) -> Future[ClipTranscript]:
    """A transcript with its voices, once both are there."""
    both: Future[ClipTranscript] = Future()

    def finish(_: Future) -> None:
        if not both.set_running_or_notify_cancel():
            return
        error = transcribed.exception() or embedded.exception()
        if error is not None:
            both.set_exception(error)
        else:
            both.set_result(replace(transcribed.result(), voices=embedded.result()))

    transcribed.add_done_callback(lambda _: embedded.add_done_callback(finish))
    return both


def _no_retries(first_pass: ClipTranscript) -> Retries:
    yield from ()
    return RetryResult(first_pass.words)


def term_trie(terms: Terms | None, tokenizer: Tokenizer) -> TermTrie | None:
    """None without terms: then decoding has no bias at all."""
    if terms is None or not terms.texts:
        return None
    return TermTrie.of(terms.texts, terms.strength, tokenizer)


@dataclass(frozen=True, slots=True)
class ClipTerms:
    """The terms of clips as tries of one tokenizer."""

    tokenizer: Tokenizer
    is_on: bool  # whether the engine can use them

    def __call__(self, clip: Clip) -> np.ndarray | None:
        if clip.terms and not self.is_on:
            raise ValueError(
                f"clip {clip.clip_id!r} has terms: load the transcriber with "
                "Terms((), strength, are_in_clips=True)"
            )
        return term_edges(clip.terms, self.tokenizer) if clip.terms else None


@lru_cache(KEPT_TRIES)
def term_edges(terms: tuple[str, ...], tokenizer: Tokenizer) -> np.ndarray:
    """The trie of the terms of one recording; ValueError for terms that cannot be used."""
    edges_E3 = TermTrie.of(terms, 0.0, tokenizer).edges_E3()
    if len(edges_E3) > MAX_EDGES:
        raise ValueError(
            f"{len(terms)} terms of one recording have {len(edges_E3)} pieces, and {MAX_EDGES} are "
            "allowed; move some to terms.file"
        )
    return edges_E3


def _engine(checkpoint: Checkpoint, config: EngineConfig, terms: Terms | None) -> Engine:
    if terms is not None:
        terms.check_passes(config.frames_per_pass)
    if (config.frames_per_pass or 1) > 1:
        speculative = load_speculative_runner(checkpoint, config)
        return speculative_engine(speculative, reproducible=config.reproducible)
    trie = term_trie(terms, checkpoint.tokenizer)
    of_streams = terms.strength if terms is not None and terms.are_in_clips else None
    runner = load_step_runner(checkpoint, config, trie, of_streams)
    return step_engine(runner, round_steps=config.round_steps, reproducible=config.reproducible)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipAdapter:
    """How clips become streams of one model, and how its output becomes words."""

    sample_rate_hz: int
    frame_samples: int
    prefix_frames: int
    flush_frames: int
    read_words: Callable[[Clip, StreamOutput], list[Word]]
    constraints: Callable[[Clip], TokenConstraints] = lambda clip: TokenConstraints()
    term_edges: Callable[[Clip], np.ndarray | None] = lambda clip: None
    input_samples: Callable[[Clip], np.ndarray] = lambda clip: clip.samples_N
    turn_ends_s: Callable[[Clip, StreamOutput, list[Word]], list[float]] = (
        lambda clip, output, words: []
    )

    def stream(self, stream_id: Any, clip: Clip) -> Stream:
        """The audio of prompt and clip between silences, as the engine takes it."""
        samples_N = self.input_samples(clip)
        num_own_frames = -(-len(samples_N) // self.frame_samples)
        constraints = self.constraints(clip)
        return Stream(
            stream_id,
            samples_N,
            self.prefix_frames + num_own_frames + self.flush_frames,
            num_silent_samples=self.prefix_frames * self.frame_samples,
            forced_tokens=constraints.forced_tokens,
            prompt_tokens=constraints.prompt_tokens,
            term_edges_E3=self.term_edges(clip),
            temperature=clip.temperature,
            seed=clip.seed,
        )


def clip_adapter(processor: SpeechProcessor, has_terms: bool = False) -> ClipAdapter:
    """The adapter of a checkpoint, by its prompting; with `has_terms` clips may bring terms."""
    prompted = _Prompted(processor)
    return ClipAdapter(
        sample_rate_hz=processor.config.mimi.sample_rate_hz,
        frame_samples=processor.config.mimi.frame_samples,
        prefix_frames=processor.config.prefix_frames,
        flush_frames=processor.config.flush_frames,
        constraints=prompted.constraints,
        term_edges=ClipTerms(processor.tokenizer, has_terms),
        input_samples=prompted.input_samples,
        read_words=prompted.read_words,
        turn_ends_s=prompted.turn_ends_s,
    )


@dataclass(frozen=True, slots=True)
class _Prompted:
    """The functions of an adapter for a checkpoint whose clips may have prompts."""

    processor: SpeechProcessor

    def prompt(self, clip: Clip) -> Prompt:
        default = self.processor.prompt(clip.domain)
        if clip.prompt is None:
            return default
        return replace(clip.prompt, domain=clip.prompt.domain or default.domain)

    def constraints(self, clip: Clip) -> TokenConstraints:
        return self.processor.constraints(self.prompt(clip))

    def input_samples(self, clip: Clip) -> np.ndarray:
        return self.processor.input_samples(clip.samples_N, self.prompt(clip))

    def read_words(self, clip: Clip, output: StreamOutput) -> list[Word]:
        tokens, confidences = output.tokens_T.tolist(), output.confidences_T.tolist()
        prompt = self.prompt(clip)
        return self.processor.words(tokens, confidences, len(clip.samples_N), prompt)

    def turn_ends_s(self, clip: Clip, output: StreamOutput, words: list[Word]) -> list[float]:
        num_samples, prompt = len(clip.samples_N), self.prompt(clip)
        return self.processor.turn_ends_s(output.vad_TH, words, num_samples, prompt)
