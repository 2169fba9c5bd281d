"""OpenAI's realtime transcription sessions: JSON over a WebSocket, audio as base64.

Without turn detection a client commits its audio, and gets the transcript of what it committed.
With it, the model's VAD heads end turns. Beyond OpenAI's fields, words have times and confidences.
"""

# N samples

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import numpy as np
from aiohttp import WSCloseCode, web

from nightscribe.model.word_stream import WordBegin, WordEvent
from nightscribe.serving.access import Access, AccessError
from nightscribe.serving.backend import Backend
from nightscribe.serving.pcm import Resampler, from_alaw, from_mulaw
from nightscribe.serving.realtime_settings import ALAW, MULAW, PCM, RealtimeSettings
from nightscribe.serving.session import FrameOutput, NoChannelError, Session
from nightscribe.serving.session_log import SessionLog
from nightscribe.serving.transcriptions import RequestError, error_response, with_openai_errors
from nightscribe.serving.turns import TurnDetection, TurnDetector
from nightscribe.serving.websockets import ClientSocket, SessionError

KEY_PROTOCOL = "openai-insecure-api-key."
PROTOCOL = "realtime"
PATH = "/v1/realtime"
MAX_APPEND_BYTES = 15 * 2**20
MIN_COMMIT_S = 0.1


@dataclass(slots=True)
class _Item:
    """What one transcript is about: a commit, or a turn."""

    item_id: str = field(default_factory=lambda: f"item_{token_hex(10)}")
    words: list[dict[str, Any]] = field(default_factory=list)
    start_s: float = 0.0

    @property
    def transcript(self) -> str:
        return " ".join(word["word"] for word in self.words)


@dataclass(slots=True, eq=False)
class _Connection:
    """One session: events of the client to the engine, and its output to events."""

    backend: Backend
    socket: ClientSocket
    log: SessionLog
    settings: RealtimeSettings = field(default_factory=RealtimeSettings)
    item: _Item = field(default_factory=_Item)
    previous_id: str | None = None
    num_samples: int = 0  # of the model's rate, since the stream began
    step: int = 0
    offset_s: float = 0.0  # of the stream in the session
    session: Session = field(init=False)
    resampler: Resampler = field(init=False)
    turns: TurnDetector | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    next_item: _Item | None = None  # of words after a turn whose last words may still come

    def __post_init__(self) -> None:
        self.session = self.backend.session(
            self._on_frame,
            on_end=self._on_end,
            on_failure=self._on_failure,
            prefix_frames=self.config.prefix_frames,
        )
        # As at OpenAI, turns are detected until a client says otherwise.
        self._apply(RealtimeSettings(turns=TurnDetection(), turns_as_asked={"type": "server_vad"}))

    @property
    def config(self) -> Any:
        return self.backend.processor.config

    @property
    def rate_hz(self) -> int:
        return self.config.mimi.sample_rate_hz

    @property
    def num_heads(self) -> int:
        return self.config.language_model.num_vad_heads

    def _apply(self, settings: RealtimeSettings) -> None:
        self.settings = settings
        self.resampler = Resampler(settings.rate_hz, self.rate_hz)
        self.turns = None
        if settings.turns is not None:
            self.turns = TurnDetector(
                settings.turns,
                1 / self.config.mimi.frame_rate_hz,
                self.config.delay_steps,
                self.config.prefix_frames,
            )

    async def run(self) -> None:
        """Serve the client until it closes."""
        await self.session.open()
        self._send("session.created", session=self._described())
        async for message in self.socket.messages():
            event_id = None
            try:
                event = _event_of(message.data)
                event_id = event.get("event_id")
                await self._obey(event)
            except RequestError as error:
                self._send_error(str(error), error.param, event_id)

    async def _obey(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "session.update":
            self._apply(self.settings.updated(event.get("session"), self.num_heads))
            self._send("session.updated", session=self._described())
        elif kind == "input_audio_buffer.append":
            self.socket.heard_audio()
            await self._feed(self.resampler.resampled(self._samples(event.get("audio"))))
        elif kind == "input_audio_buffer.commit":
            await self._commit()
        elif kind == "input_audio_buffer.clear":
            self._begin_again()
            self._send("input_audio_buffer.cleared")
        else:
            raise RequestError(f"there is no event {kind!r}", "type")

    def _samples(self, audio: Any) -> np.ndarray:
        if not isinstance(audio, str) or len(audio) > MAX_APPEND_BYTES * 4 // 3 + 4:
            raise RequestError(f"audio must be base64 of at most {MAX_APPEND_BYTES} bytes", "audio")
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise RequestError("audio must be base64", "audio") from None
        if self.settings.format == MULAW:
            return from_mulaw(np.frombuffer(data, np.uint8))
        if self.settings.format == ALAW:
            return from_alaw(np.frombuffer(data, np.uint8))
        if len(data) % 2:
            raise RequestError("audio must be 16-bit samples: an even number of bytes", "audio")
        return np.frombuffer(data, "<i2")

    async def _feed(self, samples_N: np.ndarray) -> None:
        self.num_samples += len(samples_N)
        await self.session.feed(samples_N)

    async def _commit(self) -> None:
        """End the stream after the audio so far, and wait for its last words."""
        if self.num_samples < MIN_COMMIT_S * self.rate_hz:
            raise RequestError(f"there is less than {MIN_COMMIT_S * 1000:g} ms of audio to commit")
        await self._feed(self.resampler.resampled(np.zeros(0, np.int16), is_last=True))
        if self.turns is None or self.turns.end_s is None:
            self._send_committed()
        await self.session.finish(self.config.flush_frames)
        await self.ended.wait()
        self._complete()
        if self.next_item is not None:  # words after a turn that had just ended
            self.item, self.next_item = self.next_item, None
            self._send_committed()
            self._complete()
        self._begin_again()

    def _begin_again(self) -> None:
        """A new stream in the same slot, for the next item."""
        self.ended.clear()
        self.offset_s += self.num_samples / self.rate_hz
        self.num_samples = 0
        self.item, self.next_item = _Item(start_s=self.offset_s), None
        self._apply(self.settings)
        self.session.discard()
        self.session.reset(self.config.prefix_frames)

    def _on_frame(self, output: FrameOutput) -> None:
        turns, self.step = self.turns, output.step
        self._hear(output.words)
        if turns is None:
            return
        if turns.ends(output.step, output.vad_H) and turns.end_s is not None:
            end_ms = round((self.offset_s + turns.end_s) * 1000)
            self._send(
                "input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=self.item.item_id
            )
            self._send_committed()
        if turns.is_complete(output.step):
            self._complete()
            self.item, following = _Item(), self.next_item
            self.next_item = None
            if following is not None:
                self.item = following
                turns.begins(output.step)

    def _hear(self, words: list[WordEvent]) -> None:
        for event in words:
            if isinstance(event, WordBegin):
                self._begin_word(event)
            else:
                self._end_word(event.end_s)

    def _begin_word(self, begin: WordBegin) -> None:
        self.log.word(begin.text)
        item, turns = self.item, self.turns
        if turns is not None and turns.end_s is not None and begin.start_s >= turns.end_s:
            if self.next_item is None:
                self.next_item = _Item()
                self._send_started(self.next_item, begin)
            item = self.next_item
        elif turns is not None and turns.begins(self.step):
            self._send_started(item, begin)
        word = {
            "word": begin.text,
            "start": round(self.offset_s + begin.start_s, 3),
            "end": None,
            "confidence": round(begin.confidence, 4),
        }
        item.words.append(word)
        self._send(
            "conversation.item.input_audio_transcription.delta",
            item_id=item.item_id,
            content_index=0,
            delta=begin.text if len(item.words) == 1 else f" {begin.text}",
            word=word,
        )

    def _send_started(self, item: _Item, begin: WordBegin) -> None:
        item.start_s = self.offset_s + begin.start_s
        start_ms = round(item.start_s * 1000)
        self._send(
            "input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=item.item_id
        )

    def _end_word(self, end_s: float) -> None:
        item = self.next_item if self.next_item is not None else self.item
        if item.words:
            item.words[-1]["end"] = round(self.offset_s + end_s, 3)

    def _on_end(self, words: list[WordEvent]) -> None:
        self._hear(words)
        self.ended.set()

    def _send_committed(self) -> None:
        self._send(
            "input_audio_buffer.committed",
            item_id=self.item.item_id,
            previous_item_id=self.previous_id,
        )
        self.previous_id = self.item.item_id

    def _complete(self) -> None:
        item = self.item
        now_s = self.offset_s + self.num_samples / self.rate_hz
        for word in item.words:
            word["end"] = now_s if word["end"] is None else min(word["end"], now_s)
        self._send(
            "conversation.item.input_audio_transcription.completed",
            item_id=item.item_id,
            content_index=0,
            transcript=item.transcript,
            usage={"type": "duration", "seconds": round(max(now_s - item.start_s, 0.0), 3)},
            words=item.words,
        )

    def _on_failure(self, reason: str) -> None:
        text = f"the session failed: {reason}"
        self.ended.set()
        self.socket.fail(SessionError(text, WSCloseCode.INTERNAL_ERROR, "engine"))

    def _described(self) -> dict[str, Any]:
        settings = self.settings
        format: dict[str, Any] = {"type": settings.format}
        if settings.format == PCM:
            format["rate"] = settings.rate_hz
        given = {
            "format": format,
            "transcription": {"model": self.backend.model_name},
            "turn_detection": settings.turns_as_asked,
            "noise_reduction": None,
        }
        return {
            "id": f"sess_{self.log.session_id}",
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {"input": given},
            "include": None,
        }

    def _send(self, kind: str, **content: Any) -> None:
        self.socket.send(_packed(kind, **content))

    def _send_error(self, text: str, param: str | None, event_id: str | None) -> None:
        self._send("error", error=_error(text, "invalid_request_error", param, event_id))


def _event_of(data: Any) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, UnicodeDecodeError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise RequestError("a message must be a JSON object")
    return event


def _packed(kind: str, **content: Any) -> str:
    event = {"type": kind, "event_id": f"event_{token_hex(10)}", **content}
    return json.dumps(event, ensure_ascii=False)


def _error(
    text: str, kind: str, param: str | None = None, event_id: str | None = None
) -> dict[str, Any]:
    return {"type": kind, "code": None, "message": text, "param": param, "event_id": event_id}


def key_of(access: Access, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """The key, which browsers can only put among the subprotocols."""
    offered = headers.get("Sec-WebSocket-Protocol", "").split(",")
    for name in map(str.strip, offered):
        if name.startswith(KEY_PROTOCOL):
            return access.checked(name.removeprefix(KEY_PROTOCOL))
    return access.key_of(headers, query)


@with_openai_errors
async def serve_socket(request: web.Request, backend: Backend) -> web.StreamResponse:
    """A WebSocket, or what it is refused with."""
    backend.metrics.connects.add()
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise RequestError("this path needs the headers of a WebSocket upgrade")
    try:
        backend.access.check_origin(request.headers)
    except AccessError as error:
        backend.metrics.rejects.add("origin")
        return error_response(403, str(error), "permission_error")
    key = key_of(backend.access, request.headers, request.query)
    await backend.engine.wait_for_release()
    if backend.engine.num_used >= backend.engine.num_slots:
        backend.metrics.rejects.add("full")
        return error_response(503, "every slot is taken; try again", "server_error")
    with backend.access.session(key):
        socket = await ClientSocket.accept(request, backend.config, (PROTOCOL,))
        await _serve(socket, request, backend)
    return socket.socket


async def _serve(socket: ClientSocket, request: web.Request, backend: Backend) -> None:
    connection = _Connection(backend, socket, backend.session_log("realtime", request))
    last: str | None = None
    code, reason = int(WSCloseCode.OK), "client"
    try:
        with backend.live(socket):
            await socket.run(connection.run())
    except NoChannelError as error:
        code, reason = WSCloseCode.TRY_AGAIN_LATER, "full"
        last = _packed("error", error=_error(str(error), "server_error"))
    except SessionError as error:
        code, reason = error.code, error.reason
        last = _packed("error", error=_error(str(error), "server_error"))
    finally:
        connection.session.end()
        backend.metrics.ends.add(reason)
        connection.log.ended(reason, connection.session.num_all_steps)
    await socket.close(code, last)
