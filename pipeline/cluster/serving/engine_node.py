"""A replica with an engine: a whole server with its own port, that reports to the directory."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from secrets import token_hex
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from nightscribe.cluster.serving.autoscaling import LOAD
from nightscribe.cluster.serving.config import RayServeConfig
from nightscribe.cluster.serving.directory import EngineReport
from nightscribe.errors import NightscribeError
from nightscribe.serving.backend import Backend
from nightscribe.serving.front import Server, ServerSettings, start_backend

log = logging.getLogger(__name__)

REPORT_S = 0.25
ANSWER_S = 5.0
# Engines of one machine take different ports.
NUM_PORTS = 64
UNREACHABLE = (RayError, RayServeException, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What every engine is started with."""

    server: ServerSettings
    scale: RayServeConfig
    start_logs: Callable[[], None]


class EngineNode:
    """The class of the deployment; some of its methods have the names that Ray Serve calls."""

    async def __init__(self, settings: EngineSettings, directory: Any) -> None:  # type: ignore[misc]
        settings.start_logs()
        self._scale, self._directory, self._id = settings.scale, directory, token_hex(8)
        serving = replace(settings.server.serving, drain_s=settings.scale.drain_s)
        self._backend = await start_backend(replace(settings.server, serving=serving))
        self._server = await listening(self._backend, settings.scale.engine_port)
        self._ending: asyncio.Task[None] | None = None
        self._reporting = asyncio.create_task(self._report_regularly())

    @property
    def address(self) -> str:
        """Where clients reach the server."""
        host = reachable_host(self._server.host, ray.util.get_node_ip_address())
        return (self._scale.address or "{host}:{port}").format(host=host, port=self._server.port)

    def check_health(self) -> None:
        """Ray Serve replaces a replica after three of these errors."""
        if self._backend.engine.health:
            raise RuntimeError(self._backend.engine.health)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """How much of a full engine the sessions are."""
        engine = self._backend.engine
        return {LOAD: engine.num_used / (engine.num_slots * self._scale.target_share)}

    async def __del__(self) -> None:
        """Ray Serve takes the engine away, and waits until its sessions have ended."""
        await self._drained(self._scale.drain_s)
        self._reporting.cancel()
        with suppress(*UNREACHABLE):
            async with asyncio.timeout(ANSWER_S):
                await self._directory.leave.remote(self._id)

    def _drained(self, drain_s: float) -> "asyncio.Task[None]":
        """Begin to end; an end that has begun is only brought forward."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._server.stop())
        asyncio.get_running_loop().call_later(drain_s, self._backend.end_sessions)
        return self._ending

    async def _report_regularly(self) -> None:
        while self._ending is None or not self._ending.done():
            drain_s = await self._answered()
            if drain_s is not None and self._ending is None:
                self._drained(drain_s)
            await asyncio.sleep(REPORT_S)

    async def _answered(self) -> float | None:
        """The directory's answer to a report."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._directory.report.remote(self._report())
        except UNREACHABLE as error:
            log.warning("the directory of engines does not answer: %r", error)
            return None

    def _report(self) -> EngineReport:
        engine = self._backend.engine
        return EngineReport(
            engine_id=self._id,
            address=self.address,
            num_slots=engine.num_slots,
            num_used=engine.num_used,
            num_connects=int(self._backend.metrics.connects.value),
            is_draining=self._backend.is_draining or bool(engine.health),
        )


async def listening(backend: Backend, first_port: int) -> Server:
    """A server at the first free port from this one on."""
    ports = range(first_port, first_port + NUM_PORTS) if first_port else [0]
    for port in ports:
        backend.config = replace(backend.config, port=port)
        try:
            return await Server.start(backend)
        except OSError as error:
            reason = error
    raise NightscribeError(f"no port of {ports[0]} to {ports[-1]} is free: {reason}")


def reachable_host(listens_at: str, node_address: str) -> str:
    """The host of an address that clients can use: a server may listen at all of its machine."""
    try:
        address = ip_address(listens_at)
    except ValueError:
        return listens_at
    host = node_address if address.is_unspecified else listens_at
    return f"[{host}]" if ":" in host else host
