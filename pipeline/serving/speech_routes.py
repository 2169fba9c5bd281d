"""The routes of text to speech, beside those of speech to text or alone."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from nightscribe.serving import kyutai_speech, openai_speech
from nightscribe.serving.speaking import SpeechBackend

Handler = Callable[[web.Request, SpeechBackend], Awaitable[web.StreamResponse]]


def add(app: web.Application, backend: SpeechBackend) -> None:
    """What clients of text to speech ask for."""

    def bound(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request, backend)

        return handle

    socket = bound(kyutai_speech.serve_socket)
    app.router.add_get(kyutai_speech.PATH, socket, allow_head=False)
    app.router.add_post(kyutai_speech.PATH, bound(kyutai_speech.post_text))
    app.router.add_post(openai_speech.PATH, bound(openai_speech.speak))


def speech_application(backend: SpeechBackend, middlewares: list[Any]) -> web.Application:
    """A server that only speaks."""

    async def health(request: web.Request) -> web.Response:
        problem = backend.health or ("shutting down" if backend.is_draining else "")
        content = {"status": problem or "ok", "model": backend.model_name}
        return web.json_response(content, status=503 if problem else 200)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=backend.metrics.text(), content_type="text/plain")

    async def models(request: web.Request) -> web.Response:
        one = {"id": backend.model_name, "object": "model", "created": 0}
        content = {"object": "list", "data": [one | {"owned_by": "nightscribe"}]}
        return web.Response(text=json.dumps(content), content_type="application/json")

    app = web.Application(middlewares=middlewares, client_max_size=backend.config.max_message_bytes)
    add(app, backend)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/models", models)
    return app
