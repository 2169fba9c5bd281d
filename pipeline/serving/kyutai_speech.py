"""The protocol of moshi-server for text to speech: `/api/tts_streaming`, as a socket and as POST.

Other than moshi-server, a client hears why its voice, its text or its message was refused; a voice
is used once, as the scripts do; and breaks are rounded as in the other commands.
"""

# N samples

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
import numpy as np
import torch
from aiohttp import WSCloseCode, WSMsgType, web

from nightscribe.audio.encode import as_int16
from nightscribe.audio.encode_live import LiveEncoder
from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.serving.access import TooManySessionsError
from nightscribe.serving.openai_speech import audio_response
from nightscribe.serving.speaking import NoFreeSlotError, SpeechBackend, SpokenText
from nightscribe.serving.transcriptions import RequestError, with_openai_errors
from nightscribe.serving.websockets import ClientSocket, SessionError, invalid, key_of_socket
from nightscribe.speech.requests import SpokenWord

PATH = "/api/tts_streaming"
PROTOCOL = "kyutai-tts"
FORMATS = ("Pcm", "PcmMessagePack", "OggOpus", "OggOpusMessagePack")
END = b"\x00"
# A client may read at the speed of the sound, which is made faster.
MAX_PENDING_MESSAGES = 50_000


def error_message(text: str) -> bytes:
    return msgpack.packb({"type": "Error", "message": text})


@dataclass(slots=True, eq=False)
class _Connection:
    """One socket: its words to the engine, and the sound back."""

    backend: SpeechBackend
    socket: ClientSocket
    format: str
    voice: str
    text: SpokenText | None = None
    own_voice: str | None = None  # that the client has sent
    encoder: LiveEncoder | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def has_messages(self) -> bool:
        return self.format.endswith("MessagePack")

    async def run(self) -> None:
        """Until everything was spoken, or the client has gone."""
        self.backend.check_free()
        with self.backend.counted():
            await self.backend.fetch_voice(self.voice)
            if self.has_messages:
                self.socket.send(msgpack.packb({"type": "Ready"}))
            if self.format.startswith("OggOpus"):
                await self._start_encoder()
            is_whole = await self._receive()
            if not is_whole or self.text is None:
                return
            self.text.finish()
            # What the client still sends is read, so that its end is noticed.
            gone = asyncio.create_task(self._until_gone())
            await asyncio.wait([*self.tasks, gone], return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                await asyncio.gather(*self.tasks)
            gone.cancel()

    async def _receive(self) -> bool:
        """The client's words until its end; False if it has gone before."""
        async for message in self.socket.messages():
            self.socket.heard_audio()
            if message.type == WSMsgType.TEXT:
                self._append(message.data)
            elif message.data == END or self._obey(message.data):
                return True
        return False

    async def _until_gone(self) -> None:
        async for _ in self.socket.messages():
            self.socket.heard_audio()

    def _obey(self, data: bytes) -> bool:
        """Follow a message; whether it ends the text."""
        try:
            content = msgpack.unpackb(data, strict_map_key=False)
        except (ValueError, msgpack.exceptions.UnpackException):
            content = None
        match content:
            case {"type": "Eos"}:
                return True
            case {"type": "Text", "text": str(text)}:
                self._append(text)
            case {"type": "Voice", "embeddings": list(values), "shape": list(shape)}:
                self._set_voice(values, shape)
            case _:
                raise invalid("a message was not understood: it is no Text, Voice or Eos")
        return False

    def _append(self, text: str) -> None:
        if self.text is None:
            self.text = SpokenText(self.backend, (self.own_voice or self.voice,))
            self.text.append(text)
            self.tasks.append(asyncio.create_task(self._send_outputs(self.text)))
        else:
            self.text.append(text)

    def _set_voice(self, values: list[Any], shape: list[Any]) -> None:
        if self.text is not None:
            raise invalid("a Voice must come before the first text")
        try:
            voice = torch.from_numpy(np.array(values, np.float32).reshape([int(n) for n in shape]))
            self.own_voice = self.backend.voices.add(self.backend.new_id(), voice)
        except (TypeError, ValueError, CheckpointError) as error:
            raise invalid(f"the voice cannot be used: {error}") from None

    async def _send_outputs(self, text: SpokenText) -> None:
        try:
            async for output in text.outputs():
                self.socket.heard_audio()
                if self.has_messages:
                    for word in output.words:
                        self.socket.send(self._word(word))
                if len(output.samples_N):
                    await self._send_samples(output.samples_N)
        except NightscribeError as error:
            self.socket.fail(SessionError(str(error), WSCloseCode.UNSUPPORTED_DATA, "text"))
        if self.encoder is not None:
            self.encoder.close()

    async def _send_samples(self, samples_N: np.ndarray) -> None:
        if self.encoder is not None:
            await self.encoder.write(as_int16(samples_N))
        elif self.has_messages:
            self.socket.send(
                msgpack.packb({"type": "Audio", "pcm": samples_N.tolist()}, use_single_float=True)
            )
        else:
            self.socket.send(samples_N.astype("<f4").tobytes())

    def _word(self, word: SpokenWord) -> bytes:
        """The times of moshi-server are those of the step after."""
        step_s = 1 / self.backend.frame_rate_hz
        lasts_s = word.end_s - word.start_s
        text = f'<break time="{lasts_s:.2f}s">' if word.is_break else word.text
        start_s, stop_s = word.start_s + step_s, word.end_s + step_s
        return msgpack.packb({"type": "Text", "text": text, "start_s": start_s, "stop_s": stop_s})

    async def _start_encoder(self) -> None:
        rate_hz = self.backend.sample_rate_hz
        self.encoder = await LiveEncoder.start("opus", self.backend.decode, rate_hz)
        self.tasks.append(asyncio.create_task(self._send_encoded(self.encoder)))

    async def _send_encoded(self, encoder: LiveEncoder) -> None:
        async for data in encoder.pieces():
            with_type = (
                msgpack.packb({"type": "OggOpus", "data": data}) if self.has_messages else data
            )
            self.socket.send(with_type)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.text is not None:
            self.text.cancel()
        if self.encoder is not None:
            await self.encoder.end()
        if self.own_voice is not None:
            self.backend.voices.remove(self.own_voice)


async def serve_socket(request: web.Request, backend: SpeechBackend) -> web.StreamResponse:
    """A WebSocket, or what it is refused with."""
    backend.metrics.connects.add()
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise web.HTTPBadRequest(text="this path needs the headers of a WebSocket upgrade\n")
    key = key_of_socket(request, backend.access, backend.metrics.rejects)
    format = request.query.get("format", "OggOpus")
    if format not in FORMATS:
        raise web.HTTPBadRequest(text=f"format must be one of {', '.join(FORMATS)}\n")
    config = replace(backend.config, max_pending_messages=MAX_PENDING_MESSAGES)
    socket = await ClientSocket.accept(request, config)
    voice = request.query.get("voice") or backend.default_voice
    connection = _Connection(backend, socket, format, voice)
    try:
        with backend.access.session(key):
            await _serve(connection)
    except TooManySessionsError as error:
        backend.metrics.rejects.add("key_sessions")
        await socket.close(WSCloseCode.TRY_AGAIN_LATER, _last(connection, str(error)))
    return socket.socket


async def _serve(connection: _Connection) -> None:
    backend, socket = connection.backend, connection.socket
    code, last, reason = int(WSCloseCode.OK), None, "spoken"
    try:
        with backend.live(socket):
            await socket.run(connection.run())
    except NoFreeSlotError as error:
        backend.metrics.rejects.add("full")
        code, last, reason = WSCloseCode.TRY_AGAIN_LATER, str(error), "full"
    except SessionError as error:
        code, last, reason = error.code, str(error), error.reason
    except NightscribeError as error:
        code, last, reason = WSCloseCode.UNSUPPORTED_DATA, str(error), "refused"
    finally:
        await connection.close()
    if connection.text is not None:
        connection.text.log_end(PROTOCOL, reason)
    await socket.close(code, None if last is None else _last(connection, last), last or "")


def _last(connection: _Connection, text: str) -> bytes | None:
    """Only formats with messages can say why."""
    return error_message(text) if connection.has_messages else None


@with_openai_errors
async def post_text(request: web.Request, backend: SpeechBackend) -> web.StreamResponse:
    """A whole text as JSON; its sound as WAV, streamed."""
    backend.metrics.connects.add()
    key = backend.access.key_of(request.headers, {})
    try:
        content = await request.json()
        text, voice = content["text"], content["voice"]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError):
        raise RequestError('expected JSON such as {"text": "...", "voice": "..."}') from None
    if not (isinstance(text, str) and isinstance(voice, str)):
        raise RequestError("text and voice must be texts")
    with backend.access.session(key):
        spoken = SpokenText(backend, (voice,))
        return await audio_response(request, backend, spoken, text, "wav", PROTOCOL)
