"""What the handlers of every protocol share."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web

from nightscribe.audio.decode import DecodeConfig
from nightscribe.model.prompting import SpeechProcessor
from nightscribe.model.word_stream import WordEvent
from nightscribe.serving.access import Access
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.engine_client import EngineClient
from nightscribe.serving.files import Files
from nightscribe.serving.metrics import Metrics
from nightscribe.serving.opus import OpusDecoder
from nightscribe.serving.session import FrameOutput, Session
from nightscribe.serving.session_log import SessionLog
from nightscribe.serving.speaking import SpeechBackend
from nightscribe.serving.websockets import ClientSocket, going_away, one_of


@dataclass(slots=True, eq=False, kw_only=True)
class Backend:
    """The engine, the model's conventions, and what belongs to all sessions."""

    config: ServingConfig
    decode: DecodeConfig
    engine: EngineClient
    processor: SpeechProcessor
    files: Files
    access: Access
    metrics: Metrics
    model_name: str
    speech: SpeechBackend | None = None  # of the model that speaks
    is_draining: bool = False
    sockets: set[ClientSocket] = field(default_factory=set)  # of sessions that run

    def session(
        self,
        on_frame: Callable[[FrameOutput], None],
        *,
        on_end: Callable[[list[WordEvent]], None],
        on_failure: Callable[[str], None],
        prefix_frames: int = 0,
    ) -> Session:
        return Session(
            self.engine,
            self.processor,
            self.metrics,
            on_frame,
            on_end,
            on_failure,
            prompt=self.processor.prompt(),
            prefix_frames=prefix_frames,
        )

    def session_log(self, protocol: str, request: web.Request) -> SessionLog:
        client = request.headers.get("X-Real-IP") or request.remote or ""
        return SessionLog(protocol, client, self.config.log_text)

    async def opus_decoder(self, feed: Callable[[np.ndarray], Awaitable[Any]]) -> OpusDecoder:
        return await OpusDecoder.start(self.decode, self.processor.config.mimi.sample_rate_hz, feed)

    @property
    def is_busy(self) -> bool:
        is_speaking = self.speech is not None and self.speech.is_busy
        return bool(self.sockets) or self.files.is_busy or is_speaking

    def live(self, socket: ClientSocket) -> AbstractContextManager[None]:
        """Count a socket among those that shutdown waits for."""
        return one_of(self.sockets, socket)

    def end_sessions(self) -> None:
        """Tell every session that the server is going away."""
        for socket in list(self.sockets):
            socket.fail(going_away())
        if self.speech is not None:
            self.speech.end_sessions()

    async def stop(self) -> None:
        """End the engines."""
        await self.engine.stop()
        if self.speech is not None:
            await self.speech.stop()
