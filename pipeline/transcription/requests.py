"""Clips that someone waits for, as a source of streams for an engine in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from nightscribe.engine.stream import Stream
from nightscribe.transcription.clips import Clip, HeardClip


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A clip and who waits for it; identifies its stream."""

    clip: Clip
    future: Future[HeardClip]


class Orders:
    """Submitted clips, as a source of streams that may run dry for a while."""

    def __init__(self, stream_of: Callable[[Order], Stream]) -> None:
        self._stream_of = stream_of
        self._waiting: SimpleQueue[Order | None] = SimpleQueue()
        self._open: set[Order] = set()
        self._error: BaseException | None = None
        self._is_closed = False
        self._changing = threading.Lock()

    def add(self, clip: Clip) -> Future[HeardClip]:
        order = Order(clip, Future())
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

    def _next(self, wait: bool) -> Order | None:
        try:
            order = self._waiting.get(block=wait)
        except Empty:
            return None
        if order is None:  # closed: the sign stays for the next who asks
            self._waiting.put(None)
        return order

    def finish(self, order: Order, outcome: HeardClip | BaseException) -> None:
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
