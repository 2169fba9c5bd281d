"""OpenAI's endpoint for speech: `POST /v1/audio/speech`, whose sound is sent as it is made."""

# N samples

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from nightscribe.audio.encode import as_int16
from nightscribe.audio.encode_live import LiveEncoder
from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.serving.engine_client import EngineError
from nightscribe.serving.files import BusyError
from nightscribe.serving.speaking import SpeechBackend, SpokenText
from nightscribe.serving.transcriptions import RequestError, with_openai_errors

PATH = "/v1/audio/speech"
PROTOCOL = "openai"
CONTENT_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
DEFAULT_FORMAT = "mp3"
# Names of OpenAI's own voices, which every client sends if it is not told otherwise.
FOREIGN_VOICES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx"),
    *("sage", "shimmer", "verse"),
)
MAX_WAITING_PER_SLOT = 4


@with_openai_errors
async def speak(request: web.Request, backend: SpeechBackend) -> web.StreamResponse:
    """The sound of a text."""
    backend.metrics.connects.add()
    key = backend.access.key_of(request.headers, {})
    content = await _content(request)
    text, format = _text(content, "input"), _format(content)
    if content.get("speed") not in (None, 1):
        raise RequestError("speed must be 1: this model has no speed", "speed")
    if content.get("stream_format") not in (None, "audio"):
        raise RequestError("stream_format must be audio", "stream_format")
    seed = content.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise RequestError("seed must be a whole number from 0 to 2^31-1", "seed")
    with backend.access.session(key):
        spoken = SpokenText(backend, (_voice(content, backend),), seed)
        return await audio_response(request, backend, spoken, text, format, PROTOCOL)


async def audio_response(
    request: web.Request,
    backend: SpeechBackend,
    spoken: SpokenText,
    text: str,
    format: str,
    protocol: str,
) -> web.StreamResponse:
    """Answer with the sound of a text as it is made; what is wrong with the text is said before."""
    if backend.num_open >= MAX_WAITING_PER_SLOT * backend.num_slots:
        raise BusyError(f"{backend.num_open} texts are being spoken or wait; try again")
    reason = "failed"
    try:
        with backend.counted():
            await _check(backend, spoken, text)
            spoken.speak(text)
            sound = _encoded(backend, spoken, format)
            first = await anext(sound, b"")
            response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPES[format]})
            await response.prepare(request)
            await response.write(first)
            async for data in sound:
                await response.write(data)
            await response.write_eof()
            reason = "spoken"
            return response
    except (ConnectionError, asyncio.CancelledError):
        reason = "client"
        raise
    finally:
        spoken.cancel()
        spoken.log_end(protocol, reason)


async def _check(backend: SpeechBackend, spoken: SpokenText, text: str) -> None:
    """Say what is wrong while the status can still say it."""
    try:
        for voice in spoken.voices:
            await backend.fetch_voice(voice)
    except CheckpointError as error:
        raise RequestError(str(error), "voice") from None
    try:
        await asyncio.to_thread(backend.speaker.entries, (text,))
    except NightscribeError as error:
        raise RequestError(str(error), "input") from None


async def _encoded(backend: SpeechBackend, spoken: SpokenText, format: str) -> AsyncIterator[bytes]:
    """Pieces of the file."""
    if format == "pcm":
        async for samples_N in _samples(spoken):
            yield as_int16(samples_N).astype("<i2").tobytes()
        return
    encoder = await LiveEncoder.start(format, backend.decode, backend.sample_rate_hz)
    feeding = asyncio.create_task(_feed(encoder, spoken))
    try:
        async for data in encoder.pieces():
            if feeding.done():
                feeding.result()
            yield data
        await feeding
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await encoder.end()


async def _feed(encoder: LiveEncoder, spoken: SpokenText) -> None:
    try:
        async for samples_N in _samples(spoken):
            await encoder.write(as_int16(samples_N))
    finally:
        encoder.close()


async def _samples(spoken: SpokenText) -> AsyncIterator[Any]:
    try:
        async for output in spoken.outputs():
            if len(output.samples_N):
                yield output.samples_N
    except NightscribeError as error:
        raise EngineError(str(error)) from None


async def _content(request: web.Request) -> dict[str, Any]:
    try:
        content = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        raise RequestError("the body must be a JSON object")
    return content


def _text(content: dict[str, Any], name: str) -> str:
    text = content.get(name)
    if not isinstance(text, str) or not text.strip():
        raise RequestError(f"{name} must be given, as a text", name)
    return text


def _format(content: dict[str, Any]) -> str:
    format = content.get("response_format") or DEFAULT_FORMAT
    if not isinstance(format, str) or format not in CONTENT_TYPES:
        known = ", ".join(CONTENT_TYPES)
        raise RequestError(f"response_format must be one of {known}", "response_format")
    return format


def _voice(content: dict[str, Any], backend: SpeechBackend) -> str:
    """A name of the model's voices; OpenAI's own names stand for the default voice."""
    voice = content.get("voice")
    if isinstance(voice, dict):
        voice = voice.get("id")
    if voice is not None and not isinstance(voice, str):
        raise RequestError("voice must be the name of a voice", "voice")
    return backend.default_voice if voice is None or voice in FOREIGN_VOICES else voice
