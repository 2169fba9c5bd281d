"""What both protocols share of a socket: keepalive, limits, bounded sending, a reason at the end.

Received messages are taken one at a time: while a handler waits, its client is not read.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, WSCloseCode, WSMessage, WSMsgType, web

from nightscribe.errors import NightscribeError
from nightscribe.serving.access import Access, AccessError
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.metrics import LabelledCounter

CHECK_S = 1.0
WRITE_BUFFER_BYTES = 1 << 14
CLOSE_S = 5.0  # for the last messages and the close handshake


class SessionError(NightscribeError):
    """A session ends for this reason, which is sent to its client with this close code."""

    def __init__(self, text: str, code: int, reason: str) -> None:
        super().__init__(text)
        self.code, self.reason = code, reason  # reason: one word, for metrics and logs


def invalid(text: str) -> SessionError:
    return SessionError(text, WSCloseCode.UNSUPPORTED_DATA, "invalid_message")


def going_away() -> SessionError:
    return SessionError("the server is shutting down", WSCloseCode.GOING_AWAY, "shutdown")


def key_of_socket(request: web.Request, access: Access, rejects: LabelledCounter) -> str:
    """The client's key, before the upgrade: 403 for a wrong origin, 401 for a wrong key."""
    try:
        access.check_origin(request.headers)
    except AccessError as error:
        rejects.add("origin")
        raise web.HTTPForbidden(text=f"{error}\n") from None
    try:
        return access.key_of(request.headers, request.query)
    except AccessError:
        rejects.add("key")
        raise web.HTTPUnauthorized(text="") from None


@contextlib.contextmanager
def one_of(sockets: "set[ClientSocket]", socket: "ClientSocket") -> Iterator[None]:
    """The socket is among these meanwhile."""
    sockets.add(socket)
    try:
        yield
    finally:
        sockets.discard(socket)


@dataclass(slots=True, eq=False)
class ClientSocket:
    """One accepted WebSocket."""

    config: ServingConfig
    socket: web.WebSocketResponse
    _unsent: deque[bytes | str] = field(default_factory=deque)
    _has_unsent: asyncio.Event = field(default_factory=asyncio.Event)
    _began_s: float = field(default_factory=time.monotonic)
    _sent_s: float = field(default_factory=time.monotonic)
    _received_s: float = field(default_factory=time.monotonic)
    _pinged_s: float = field(default_factory=time.monotonic)
    _audio_s: float | None = None
    _is_reading: bool = False
    _failure: asyncio.Future[None] | None = None

    @classmethod
    async def accept(
        cls, request: web.Request, config: ServingConfig, protocols: tuple[str, ...] = ()
    ) -> "ClientSocket":
        socket = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            compress=False,
            max_msg_size=config.max_message_bytes,
            protocols=protocols,
            timeout=CLOSE_S,
            writer_limit=WRITE_BUFFER_BYTES,
        )
        await socket.prepare(request)
        if request.transport is not None:  # what is unread is counted here, not hidden in a buffer
            request.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        return cls(config, socket)

    def send(self, message: bytes | str) -> None:
        """Queue a message; a client that leaves too many unread is disconnected."""
        if len(self._unsent) >= self.config.max_pending_messages:
            text = f"{len(self._unsent)} messages were not read"
            self.fail(SessionError(text, WSCloseCode.TRY_AGAIN_LATER, "slow_reader"))
            return
        self._unsent.append(message)
        self._has_unsent.set()

    def fail(self, error: SessionError) -> None:
        """End the session from anywhere."""
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    def heard_audio(self) -> None:
        self._audio_s = time.monotonic()

    async def run(self, handling: Coroutine[Any, Any, None]) -> None:
        """Run a handler of this socket beside its sender and its timers, until one of them ends."""
        self._failure = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(one) for one in (handling, self._send(), self._watch())]
        try:
            done, _ = await asyncio.wait(
                [*tasks, self._failure], return_when=asyncio.FIRST_COMPLETED
            )
            for one in done:
                one.result()
        finally:
            self._failure.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def messages(self) -> AsyncIterator[WSMessage]:
        """Text and binary messages until the client closes."""
        while True:
            self._is_reading = True
            message = await self.socket.receive()
            self._is_reading, self._received_s = False, time.monotonic()
            if message.type == WSMsgType.PING:
                await self.socket.pong(message.data)
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message
            elif message.type == WSMsgType.ERROR:
                raise _protocol_error(message.data)
            elif message.type != WSMsgType.PONG:  # closing or closed
                return

    async def close(self, code: int, last: bytes | str | None = None, text: str = "") -> None:
        """Send what is queued and a last message, then close; a client gets a few seconds."""
        with contextlib.suppress(TimeoutError, ConnectionError, ClientError, RuntimeError):
            async with asyncio.timeout(CLOSE_S):
                if last is not None:
                    self._unsent.append(last)
                while self._unsent:
                    await self._send_one()
                await self.socket.close(code=code, message=text.encode()[:120])
        self.abort()

    def abort(self) -> None:
        """Drop the connection if it is still there."""
        request = self.socket._req
        if request is not None and request.transport is not None:
            request.transport.abort()

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionError, ClientError):
            while True:
                await self._has_unsent.wait()
                while self._unsent:
                    await self._send_one()
                self._has_unsent.clear()

    async def _send_one(self) -> None:
        message = self._unsent[0]
        if isinstance(message, bytes):
            await self.socket.send_bytes(message)
        else:
            await self.socket.send_str(message)
        self._unsent.popleft()
        self._sent_s = time.monotonic()

    async def _watch(self) -> None:
        """Pings a client while either side is quiet, and drops one that does not answer."""
        while True:
            await asyncio.sleep(min(CHECK_S, self.config.ping_s / 4, self.config.dead_s / 4))
            now_s = time.monotonic()
            # A client that we do not read now cannot show that it lives.
            if not self._is_reading:
                self._received_s = now_s
            self._check(now_s)
            quiet_s = now_s - max(self._pinged_s, min(self._sent_s, self._received_s))
            if quiet_s > self.config.ping_s:
                self._pinged_s = now_s
                await self.socket.ping()

    def _check(self, now_s: float) -> None:
        config, policy = self.config, WSCloseCode.POLICY_VIOLATION
        if now_s - self._received_s > config.dead_s:
            text = f"nothing was received for {config.dead_s:g} s"
            raise SessionError(text, WSCloseCode.GOING_AWAY, "dead")
        if self._audio_s is None and now_s - self._began_s > config.first_audio_s:
            raise SessionError(f"no audio within {config.first_audio_s:g} s", policy, "no_audio")
        if self._audio_s is not None and now_s - self._audio_s > config.idle_s:
            raise SessionError(f"no audio for {config.idle_s:g} s", policy, "idle")
        if config.max_session_s is not None and now_s - self._began_s > config.max_session_s:
            text = f"a session lasts at most {config.max_session_s:g} s"
            raise SessionError(text, policy, "too_long")


def _protocol_error(error: BaseException | None) -> SessionError:
    code = getattr(error, "code", WSCloseCode.PROTOCOL_ERROR)
    too_big = code == WSCloseCode.MESSAGE_TOO_BIG
    return SessionError(str(error), code, "too_big" if too_big else "protocol_error")
