"""The protocol of moshi-server: `/api/asr-streaming`, and its two pages of facts.

Other than moshi-server, a Marker counts the steps of its own stream, whatever other streams do, and
a session that the server ends gets the reason before its socket is closed.
"""

# N samples, H VAD heads

import logging
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgpack
from aiohttp import WSCloseCode, WSMsgType, web

from nightscribe.model.word_stream import WordBegin, WordEvent
from nightscribe.serving import kyutai_messages as messages
from nightscribe.serving.access import TooManySessionsError
from nightscribe.serving.backend import Backend
from nightscribe.serving.files import WHOLE
from nightscribe.serving.opus import OpusError
from nightscribe.serving.session import FrameOutput, NoChannelError, Session
from nightscribe.serving.session_log import SessionLog
from nightscribe.serving.transcriptions import with_openai_errors
from nightscribe.serving.websockets import ClientSocket, SessionError, invalid, key_of_socket

log = logging.getLogger(__name__)

PATH = "/api/asr-streaming"
# What clients may ask for: keys that moshi-server does not send.
DETAILS = "details"


@dataclass(slots=True, eq=False)
class _Connection:
    """One session: messages of the client to the engine, and its output to messages."""

    backend: Backend
    socket: ClientSocket
    log: SessionLog
    with_details: bool
    markers: deque[tuple[int, int]] = field(default_factory=deque)  # the step due, and the id
    opus: Any = None
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = self.backend.session(
            self._on_frame, on_end=self._send_words, on_failure=self._on_failure
        )

    async def run(self) -> None:
        """Serve the client until it closes."""
        await self.session.open()
        self._send_ready()
        async for message in self.socket.messages():
            if message.type == WSMsgType.BINARY:
                await self._obey(message.data)

    def _send_ready(self) -> None:
        if not self.with_details:
            self.socket.send(messages.READY)
            return
        config = self.backend.processor.config
        self.socket.send(
            msgpack.packb(
                {
                    "type": "Ready",
                    "session": self.log.session_id,
                    "prefix_frames": config.prefix_frames,
                    "delay_frames": config.delay_steps,
                    "flush_frames": config.flush_frames,
                }
            )
        )

    async def _obey(self, data: bytes) -> None:
        try:
            message = messages.read(data)
        except messages.InvalidMessageError as error:
            raise invalid(f"a message was not understood: {error}") from None
        match message:
            case messages.Audio(samples_N):
                self.socket.heard_audio()
                await self.session.feed(samples_N)
            case messages.OggOpus(data):
                self.socket.heard_audio()
                await self._feed_opus(data)
            case messages.Marker(id):
                self._add_marker(id)
            case messages.Init():
                self._reset()

    def _add_marker(self, id: int) -> None:
        """It is answered after the frames received so far and the model's delay."""
        due = self.session.num_frames + self.backend.processor.config.delay_steps
        self.markers.append((due, id))

    def _reset(self) -> None:
        done = self.session.num_steps
        self.markers = deque((due - done, id) for due, id in self.markers)
        self.session.reset()
        self._send_ready()

    async def _feed_opus(self, data: bytes) -> None:
        if self.opus is None:
            self.opus = await self.backend.opus_decoder(self.session.feed)
        try:
            await self.opus.write(data)
        except OpusError as error:
            raise invalid(f"a message was not understood: {error}") from None

    def _on_frame(self, output: FrameOutput) -> None:
        if len(output.vad_H):
            prs, buffered = output.vad_H.tolist(), self.session.num_buffered
            self.socket.send(messages.step(output.step, prs, buffered))
        self._send_words(output.words)
        while self.markers and self.markers[0][0] <= output.step:
            self._send_words(self.session.end_word())
            self.socket.send(messages.marker(self.markers.popleft()[1]))

    def _send_words(self, words: list[WordEvent]) -> None:
        for event in words:
            if isinstance(event, WordBegin):
                self.log.word(event.text)
                extra = {"confidence": round(event.confidence, 4)} if self.with_details else {}
                self.socket.send(messages.word(event.text, event.start_s, **extra))
            else:
                self.socket.send(messages.end_word(event.end_s))

    def _on_failure(self, reason: str) -> None:
        text = f"the session failed: {reason}"
        self.socket.fail(SessionError(text, WSCloseCode.INTERNAL_ERROR, "engine"))

    async def close(self) -> None:
        if self.opus is not None:
            await self.opus.close()
        self.session.end()


async def serve_socket(request: web.Request, backend: Backend) -> web.StreamResponse:
    """A WebSocket, or what it is refused with."""
    backend.metrics.connects.add()
    ready = web.WebSocketResponse().can_prepare(request)
    if not ready.ok:
        raise web.HTTPBadRequest(text="this path needs the headers of a WebSocket upgrade\n")
    key = key_of_socket(request, backend.access, backend.metrics.rejects)
    socket = await ClientSocket.accept(request, backend.config)
    try:
        with backend.access.session(key):
            await _serve(socket, request, backend)
    except TooManySessionsError as error:
        backend.metrics.rejects.add("key_sessions")
        await socket.close(WSCloseCode.TRY_AGAIN_LATER, messages.error(str(error)))
    return socket.socket


async def _serve(socket: ClientSocket, request: web.Request, backend: Backend) -> None:
    details = request.query.get(DETAILS, "") not in ("", "0", "false")
    connection = _Connection(backend, socket, backend.session_log("kyutai", request), details)
    last: bytes | None = None
    code, reason = int(WSCloseCode.OK), "client"
    try:
        with backend.live(socket):
            await socket.run(connection.run())
    except NoChannelError as error:
        backend.metrics.rejects.add("full")
        code, last, reason = WSCloseCode.TRY_AGAIN_LATER, messages.error(str(error)), "full"
    except SessionError as error:
        code, last, reason = error.code, messages.error(str(error)), error.reason
    finally:
        await connection.close()
        backend.metrics.ends.add(reason)
        connection.log.ended(reason, connection.session.num_all_steps)
    await socket.close(code, last)


@with_openai_errors
async def post_file(request: web.Request, backend: Backend) -> web.Response:
    """A whole file as the body; its words as a list of messages."""
    backend.metrics.connects.add()
    key = backend.access.key_of_headers(request.headers, request.query)
    with backend.access.session(key), backend.files.admitted():
        async with backend.files.received(request.content.iter_any()) as path:
            found = await backend.files.transcribe(path, WHOLE)
    content: list[dict[str, Any]] = []
    for word in found.words:
        content.append({"type": "Word", "text": word.text, "start_time": word.start_s})
        content.append({"type": "EndWord", "stop_time": word.end_s})
    return web.json_response(content)


def modules_info(backend: Backend) -> web.Response:
    """What moshi-server says about its modules; every value is a text."""
    engine = backend.engine
    return web.json_response([module_facts(backend.model_name, engine.num_used, engine.num_slots)])


def module_facts(model_name: str, num_used: int, num_slots: int) -> dict[str, str]:
    return {
        "type": "batched_asr",
        "path": PATH,
        "lm": model_name,
        "audio_tokenizer": "mimi",
        "used_slots": str(num_used),
        "total_slots": str(num_slots),
    }


@cache
def build_facts() -> dict[str, str]:
    try:
        release = version("nightscribe")
    except PackageNotFoundError:
        release = "unknown"
    keys = (
        "build_timestamp build_date git_branch git_timestamp git_date git_hash git_describe "
        "rustc_host_triple rustc_version cargo_target_triple"
    )
    return dict.fromkeys(keys.split(), "") | {"git_describe": f"nightscribe {release}"}


def build_info() -> web.Response:
    """The keys of moshi-server, most of them empty: clients only look whether it answers."""
    return web.json_response(build_facts())
