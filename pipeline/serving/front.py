"""The HTTP server: routes, health, and an end that leaves no session without a reason."""

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import web

from nightscribe.audio.decode import DecodeConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.device import device_of
from nightscribe.model.prompting import SpeechProcessor
from nightscribe.serving import kyutai, realtime, speech_routes, transcriptions
from nightscribe.serving.access import Access
from nightscribe.serving.backend import Backend
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.engine_client import EngineClient
from nightscribe.serving.files import Files
from nightscribe.serving.metrics import Metrics
from nightscribe.serving.speaking import SpeechBackend, SpeechSettings, load_speech
from nightscribe.transcription.transcriber import clip_adapter

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' blob:; connect-src 'self' ws: wss:; img-src data:"
)
DRAIN_CHECK_S = 0.1
RETRY_AFTER_S = "1"
# A stream that is behind makes at most this many steps while others wait.
LIVE_ROUND_STEPS = 4
CPU_SLOTS = 16

Handler = Callable[[web.Request, Backend], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Everything that a server is started with."""

    model: ModelConfig
    engine: EngineConfig
    serving: ServingConfig
    decode: DecodeConfig
    guards: GuardsConfig
    speech: SpeechSettings | None = None  # a model that speaks, beside


def _engine_client(
    settings: ServerSettings, config: SpeechToTextConfig, metrics: Metrics
) -> EngineClient:
    return EngineClient(
        settings.model,
        live_engine(settings.engine),
        frame_samples=config.mimi.frame_samples,
        num_heads=config.language_model.num_vad_heads,
        ring_frames=max(2, round(settings.serving.buffer_s * config.mimi.frame_rate_hz)),
        file_share=settings.serving.file_slots,
        metrics=metrics,
    )


async def start_backend(settings: ServerSettings) -> Backend:
    """Load the model in a process of its own; returns when it is ready."""
    checkpoint = open_model(settings.model)
    processor = SpeechProcessor(
        config=checkpoint.config,
        tokenizer=checkpoint.tokenizer,
        domains=settings.model.domains,
        default_domain=settings.model.domain,
    )
    metrics = Metrics()
    engine = _engine_client(settings, checkpoint.config, metrics)
    files = Files(
        settings.serving,
        settings.decode,
        settings.guards,
        engine,
        clip_adapter(processor),
        settings.model.name,
        checkpoint.revision,
    )
    await engine.start()
    speech = None
    if settings.speech is not None:
        speech = load_speech(settings.speech, settings.serving, settings.decode)
    return Backend(
        config=settings.serving,
        decode=settings.decode,
        engine=engine,
        processor=processor,
        files=files,
        access=Access(settings.serving),
        metrics=metrics,
        model_name=settings.model.name,
        speech=speech,
    )


def live_engine(asked: EngineConfig) -> EngineConfig:
    """One frame a pass, short rounds, and on a CPU few slots: each costs its time."""
    num_slots = asked.num_slots
    if num_slots is None and device_of(asked.device).type == "cpu":
        num_slots = CPU_SLOTS
    round_steps = min(asked.round_steps, LIVE_ROUND_STEPS)
    return replace(asked, frames_per_pass=1, round_steps=round_steps, num_slots=num_slots)


@dataclass(slots=True, eq=False)
class Server:
    """A listening server over a backend."""

    backend: Backend | SpeechBackend
    runner: web.AppRunner
    site: web.TCPSite
    host: str
    port: int

    @classmethod
    async def start(cls, backend: Backend) -> "Server":
        return await cls.serving(backend, application(backend))

    @classmethod
    async def serving(cls, backend: Backend | SpeechBackend, app: web.Application) -> "Server":
        config = backend.config
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=5,
            keepalive_timeout=config.request_s,
        )
        await runner.setup()
        site = web.TCPSite(runner, config.host, config.port, backlog=1024)
        await site.start()
        return cls(backend, runner, site, config.host, runner.addresses[0][1])

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def stop(self) -> None:
        """Take no more connections, let sessions end by themselves for a while, then end them."""
        backend = self.backend
        backend.is_draining = True
        await self.site.stop()
        deadline_s = asyncio.get_running_loop().time() + backend.config.drain_s
        while backend.is_busy and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(DRAIN_CHECK_S)
        backend.end_sessions()
        await self.runner.cleanup()
        await backend.stop()


async def run_server(
    settings: ServerSettings, on_start: Callable[[Server], None] = lambda server: None
) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    return await _run(await Server.start(await start_backend(settings)), on_start)


async def run_speech_server(
    settings: SpeechSettings,
    serving: ServingConfig,
    decode: DecodeConfig,
    on_start: Callable[[Server], None],
) -> int:
    """The same for a server that only speaks."""
    backend = load_speech(settings, serving, decode)
    app = speech_routes.speech_application(backend, [_limits(backend)])
    return await _run(await Server.serving(backend, app), on_start)


async def _run(server: Server, on_start: Callable[[Server], None]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    on_start(server)
    log.info("listening", extra={"url": server.url, "num_slots": server.backend.engine.num_slots})
    await stop.wait()
    await server.stop()
    return 0


def application(backend: Backend) -> web.Application:
    """Every route."""
    app = web.Application(
        middlewares=[_limits(backend)], client_max_size=backend.config.max_file_bytes
    )

    def bound(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request, backend)

        return handle

    async def asr(request: web.Request, backend: Backend) -> web.StreamResponse:
        return await kyutai.serve_socket(request, backend)

    app.router.add_get(kyutai.PATH, bound(asr), allow_head=False)
    app.router.add_post(kyutai.PATH, bound(kyutai.post_file))
    app.router.add_get("/api/build_info", bound(_build_info))
    app.router.add_get("/api/modules_info", bound(_modules_info))
    app.router.add_get("/metrics", bound(_metrics))
    app.router.add_get("/health", bound(_health))
    app.router.add_get("/v1/models", bound(transcriptions.models))
    app.router.add_post("/v1/audio/transcriptions", bound(transcriptions.transcribe))
    app.router.add_get(realtime.PATH, bound(realtime.serve_socket), allow_head=False)
    if backend.speech is not None:
        speech_routes.add(app, backend.speech)
    app.router.add_get("/", bound(_page))
    app.router.add_get("/{name:live\\.(?:js|css)}", bound(_page))
    return app


def _limits(backend: Backend | SpeechBackend) -> Callable:
    """Refuse what the server cannot take, and count connections."""
    num_open = 0

    @web.middleware
    async def limit(request: web.Request, handler: Callable) -> web.StreamResponse:
        nonlocal num_open
        if num_open >= backend.config.max_connections:
            backend.metrics.rejects.add("connections")
            raise web.HTTPServiceUnavailable(
                text="too many connections\n", headers={"Retry-After": RETRY_AFTER_S}
            )
        num_open += 1
        try:
            return await handler(request)
        finally:
            num_open -= 1

    return limit


async def _build_info(request: web.Request, backend: Backend) -> web.Response:
    return kyutai.build_info()


async def _modules_info(request: web.Request, backend: Backend) -> web.Response:
    return kyutai.modules_info(backend)


async def _metrics(request: web.Request, backend: Backend) -> web.Response:
    text = backend.metrics.text() + (backend.speech.metrics.text() if backend.speech else "")
    return web.Response(text=text, content_type="text/plain", charset="utf-8")


async def _health(request: web.Request, backend: Backend) -> web.Response:
    """Green while the engine makes steps and the server takes sessions."""
    problem = backend.engine.health or ("shutting down" if backend.is_draining else "")
    if backend.speech is not None:
        problem = problem or backend.speech.health
    content = {"status": problem or "ok", "model": backend.model_name}
    return web.Response(
        status=503 if problem else 200,
        text=json.dumps(content),
        content_type="application/json",
    )


async def _page(request: web.Request, backend: Backend) -> web.StreamResponse:
    name = request.match_info.get("name", "live.html")
    return web.FileResponse(STATIC / name, headers={"Content-Security-Policy": PAGE_POLICY})
