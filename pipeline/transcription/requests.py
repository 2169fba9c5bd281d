"""Clips that wait for a slot of the engine, and the passes that each of them takes.

The first pass is over the whole clip. Where the model stalled, further passes over short pieces
follow; they wait for slots like any other clip.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from nightscribe.engine.stream import Stream
from nightscribe.guards.stall_retry import RetryAttempt, RetryResult
from nightscribe.records import Word
from nightscribe.transcription.clips import Clip, ClipTranscript

Retries = Generator[RetryAttempt, Sequence[Word], RetryResult]


@dataclass(slots=True, eq=False)
class Request:
    """A clip, the future of its transcript, and how far its passes are."""

    clip: Clip
    future: Future[ClipTranscript] = field(default_factory=Future)
    first_pass: ClipTranscript | None = None
    retries: Retries | None = None

    def advance(
        self, result: ClipTranscript, retry_stalls: Callable[[ClipTranscript, Clip], Retries]
    ) -> Clip | ClipTranscript:
        """Take the result of a pass; the next piece to transcribe, or the final transcript."""
        try:
            if self.retries is None:
                self.first_pass, self.retries = result, retry_stalls(result, self.clip)
                return self._piece(next(self.retries))
            return self._piece(self.retries.send(result.words))
        except StopIteration as end:
            return self._final(end.value)

    def _piece(self, attempt: RetryAttempt) -> Clip:
        return replace(
            self.clip,
            clip_id=f"{self.clip.clip_id} retry from {attempt.start_s:.2f} s",
            samples_N=attempt.samples_N,
            temperature=attempt.temperature,
        )

    def _final(self, found: RetryResult) -> ClipTranscript:
        assert self.first_pass is not None
        return replace(self.first_pass, words=found.words, num_redecoded=len(found.fixed_stalls))


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One pass of the engine over a clip, or over a piece of it; identifies its stream."""

    request: Request
    clip: Clip


StreamOf = Callable[[Pass], Stream]


class ListedRequests:
    """A source of streams over clips that are pulled one by one; retries go first."""

    def __init__(self, clips: Iterable[Clip], stream_of: StreamOf) -> None:
        self._clips: Iterator[Clip] = iter(clips)
        self._stream_of = stream_of
        self._retries: deque[Pass] = deque()

    def take(self, *, wait: bool) -> Stream | None:
        if self._retries:
            return self._stream_of(self._retries.popleft())
        clip = next(self._clips, None)
        return None if clip is None else self._stream_of(Pass(Request(clip), clip))

    def retry(self, retry: Pass) -> None:
        self._retries.append(retry)


class RequestQueue:
    """A source of streams over submitted clips, which may be empty for a while."""

    def __init__(self, stream_of: StreamOf) -> None:
        self._stream_of = stream_of
        self._waiting: deque[Request] = deque()
        self._retries: deque[Pass] = deque()
        self._open: set[Request] = set()
        self._error: BaseException | None = None
        self._is_closed = False
        self._changed = threading.Condition()  # guards all of these

    def add(self, clip: Clip) -> Future[ClipTranscript]:
        request = Request(clip)
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the transcriber is closed") from self._error
            self._open.add(request)
            self._waiting.append(request)
            self._changed.notify_all()
        return request.future

    def take(self, *, wait: bool) -> Stream | None:
        while (following := self._next(wait)) is not None:
            try:
                return self._stream_of(following)
            except Exception as error:
                self.finish(following.request, error)
        return None

    def retry(self, retry: Pass) -> None:
        """Queue one more pass for a request that was taken before."""
        with self._changed:
            self._retries.append(retry)
            self._changed.notify_all()

    def _next(self, wait: bool) -> Pass | None:
        """The next pass; with `wait`, None only when no request can come or have another pass."""
        with self._changed:
            while True:
                following = self._pop()
                if following is not None or not wait or (self._is_closed and not self._open):
                    return following
                self._changed.wait()

    def _pop(self) -> Pass | None:
        if self._retries:
            return self._retries.popleft()
        while self._waiting:
            request = self._waiting.popleft()
            if request.future.set_running_or_notify_cancel():
                return Pass(request, request.clip)
            self._open.discard(request)
        return None

    def finish(self, request: Request, outcome: ClipTranscript | BaseException) -> None:
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()
        if isinstance(outcome, BaseException):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        """The engine is dead: raise the error in every caller that waits."""
        with self._changed:
            self._is_closed, self._error = True, error
        for request in list(self._open):
            if request.future.running() or request.future.set_running_or_notify_cancel():
                self.finish(request, error)

    @property
    def has_failed(self) -> bool:
        return self._error is not None

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
