"""OpenAI's endpoint for files: `POST /v1/audio/transcriptions`."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from aiohttp import BodyPartReader, web

from nightscribe.audio.segmentation import ShardConfig
from nightscribe.errors import NightscribeError
from nightscribe.records import Transcript, Word
from nightscribe.rendering.document import RenderingConfig, monologue, utterances
from nightscribe.rendering.formats import render
from nightscribe.serving.access import AccessError, TooManySessionsError
from nightscribe.serving.backend import Backend
from nightscribe.serving.engine_client import EngineError
from nightscribe.serving.files import BusyError, FileError, TooLargeError
from nightscribe.stitching import owned_words, stitch

FORMATS = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain",
    "srt": "text/plain",
    "vtt": "text/vtt",
}
MAX_FIELD_BYTES = 1 << 16
MAX_FIELDS = 64
RETRY_AFTER_S = "5"
UNKNOWN_LANGUAGE = "unknown"


class RequestError(NightscribeError, ValueError):
    """A wrong request, as OpenAI's clients read it."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def error_content(
    message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(
    status: int, message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> web.Response:
    content = error_content(message, kind, param=param, code=code)
    headers = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    return web.json_response(content, status=status, headers=headers)


Handler = Callable[[web.Request, Any], Any]  # with either backend: of transcripts, of speech


def with_openai_errors(handler: Handler) -> Handler:
    """Turn errors into what OpenAI's clients expect."""

    @wraps(handler)
    async def handle(request: web.Request, backend: Any) -> web.StreamResponse:
        try:
            return await handler(request, backend)
        except AccessError as error:
            if isinstance(error, TooManySessionsError):
                backend.metrics.rejects.add("key_sessions")
                return error_response(429, str(error), "rate_limit_error")
            backend.metrics.rejects.add("key")
            return error_response(401, str(error), "authentication_error", code="invalid_api_key")
        except RequestError as error:
            return error_response(400, str(error), "invalid_request_error", param=error.param)
        except TooLargeError as error:
            return error_response(413, str(error), "invalid_request_error", param="file")
        except FileError as error:
            return error_response(400, str(error), "invalid_request_error", param="file")
        except BusyError as error:
            backend.metrics.rejects.add("files")
            return error_response(429, str(error), "rate_limit_error")
        except EngineError as error:
            return error_response(503, str(error), "server_error")

    return handle


@with_openai_errors
async def models(request: web.Request, backend: Backend) -> web.Response:
    """The model that is served."""
    backend.access.key_of_headers(request.headers, request.query)
    one = {"id": backend.model_name, "object": "model", "created": 0, "owned_by": "nightscribe"}
    return web.json_response({"object": "list", "data": [one]})


@dataclass(slots=True)
class _Form:
    """The fields of a request that change the answer."""

    model: str = ""
    response_format: str = "json"
    stream: bool = False
    word_times: bool = False
    has_file: bool = False

    def take(self, name: str, value: str) -> None:
        if name == "model":
            self.model = value
        elif name == "response_format":
            if value not in FORMATS:
                known = ", ".join(FORMATS)
                raise RequestError(f"response_format must be one of {known}, not {value}", name)
            self.response_format = value
        elif name == "stream":
            self.stream = value.lower() in ("true", "1")
        elif name in ("timestamp_granularities[]", "timestamp_granularities"):
            self.word_times |= value == "word"

    def check(self) -> None:
        if not self.has_file:
            raise RequestError("file must be given", "file")
        if not self.model:
            raise RequestError("model must be given", "model")
        if self.word_times and self.response_format != "verbose_json":
            raise RequestError(
                "timestamp_granularities needs response_format=verbose_json",
                "timestamp_granularities",
            )


@with_openai_errors
async def transcribe(request: web.Request, backend: Backend) -> web.StreamResponse:
    """Read the form, which may have its fields after the file, then transcribe."""
    key = backend.access.key_of_headers(request.headers, request.query)
    backend.access.check_origin(request.headers)
    if not request.content_type.startswith("multipart/"):
        raise RequestError("the body must be multipart/form-data")
    with backend.access.session(key), backend.files.admitted():
        form = _Form()
        async with backend.files.received(_file_of(request, form)) as path:
            form.check()
            shards = backend.files.shards(path, ShardConfig())
            if form.stream:
                return await _stream(request, shards)
            return _answer(stitch([one async for one in shards]), form)


async def _file_of(request: web.Request, form: _Form) -> AsyncIterator[bytes]:
    """The content of the file; the other fields go into the form."""
    num_fields = 0
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        num_fields += 1
        if num_fields > MAX_FIELDS or not isinstance(part, BodyPartReader):
            raise RequestError(f"the form has more than {MAX_FIELDS} fields, or nested ones")
        if part.name == "file" and not form.has_file:
            form.has_file = True
            while chunk := await part.read_chunk(1 << 16):
                yield bytes(chunk)
        else:
            value = await part.read_chunk(MAX_FIELD_BYTES)
            form.take(part.name or "", bytes(value).decode(errors="replace"))
            await part.release()


def _text(words: tuple[Word, ...] | list[Word]) -> str:
    return " ".join(word.text for word in words)


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(transcript.duration_s)}


def _answer(transcript: Transcript, form: _Form) -> web.Response:
    if form.response_format == "json":
        return web.json_response({"text": _text(transcript.words), "usage": _usage(transcript)})
    if form.response_format == "verbose_json":
        return web.json_response(_verbose(transcript, form))
    content_type = FORMATS[form.response_format]
    rendered = render(monologue("", transcript.words), form.response_format, RenderingConfig())
    return web.Response(text=rendered, content_type=content_type, charset="utf-8")


def _verbose(transcript: Transcript, form: _Form) -> dict[str, Any]:
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": UNKNOWN_LANGUAGE,
        "duration": transcript.duration_s,
        "text": _text(transcript.words),
        "segments": [
            _segment(index, part.words)
            for index, part in enumerate(
                utterances(monologue("", transcript.words), RenderingConfig())
            )
        ],
        "usage": _usage(transcript),
    }
    if form.word_times:
        content["words"] = [_word(word) for word in transcript.words]
    return content


def _word(word: Word) -> dict[str, Any]:
    """With the confidence, which OpenAI has not."""
    return {
        "word": word.text,
        "start": word.start_s,
        "end": word.end_s,
        "confidence": round(word.confidence, 4),
    }


def _segment(index: int, words: tuple[Word, ...]) -> dict[str, Any]:
    """The fields of Whisper that this kind of model has no values for are neutral."""
    return {
        "id": index,
        "seek": 0,
        "start": words[0].start_s,
        "end": words[-1].end_s,
        "text": " " + _text(words),
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": 0.0,
        "no_speech_prob": 0.0,
    }


async def _stream(request: web.Request, shards: AsyncIterator) -> web.StreamResponse:
    """Server-sent events: the words of each shard as it is done, then the whole text."""
    response = web.StreamResponse(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    finished: list = []
    try:
        async for one in shards:
            text = _text(list(owned_words(one)))
            if text:
                delta = f" {text}" if any(shard.words for shard in finished) else text
                await _event(response, {"type": "transcript.text.delta", "delta": delta})
            finished.append(one)
        whole = stitch(finished)
        done = {"type": "transcript.text.done", "text": _text(whole.words), "usage": _usage(whole)}
        await _event(response, done)
    except (FileError, EngineError) as error:
        kind = "invalid_request_error" if isinstance(error, FileError) else "server_error"
        content = {"message": str(error), "type": kind, "param": None, "code": None}
        await _event(response, {"error": content})
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _event(response: web.StreamResponse, content: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode())
