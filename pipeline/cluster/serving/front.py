"""The front: sends every client to an engine, by a redirect that keeps scheme, path and query.

`Location` has no scheme, because some clients of WebSockets want ws: there, and others http:.
A client's headers may not survive a redirect, so the query gets a ticket that stands for its key.
"""

import logging
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from nightscribe.serving import kyutai_messages, realtime
from nightscribe.serving.access import TICKET, Access, AccessError
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.kyutai import PATH, build_facts, module_facts
from nightscribe.serving.transcriptions import error_content

log = logging.getLogger(__name__)

METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]
# Files wait at an engine for a slot.
SESSION_PATHS = (PATH, realtime.PATH)
RETRY_AFTER = {"Retry-After": "1"}
TRY_AGAIN_LATER = 1013

app = FastAPI(openapi_url=None)


def _refused(status: int, message: str, kind: str) -> Response:
    return JSONResponse(error_content(message, kind), status, RETRY_AFTER if status == 503 else {})


async def _tell_full(socket: WebSocket) -> None:
    """As an engine does it: clients of moshi-server know no other answer."""
    await socket.accept()
    await socket.send_bytes(kyutai_messages.error("no free channels"))
    await socket.close(TRY_AGAIN_LATER)


# Ray Serve copies the class here: what it uses must stand above it.
@serve.ingress(app)
class Front:
    """The class of the deployment that Ray Serve's proxies call."""

    def __init__(
        self, config: ServingConfig, model_name: str, directory: Any, engines: Any
    ) -> None:
        self._access, self._model_name, self._directory = Access(config), model_name, directory

    @app.get("/health")
    async def health(self) -> Response:
        """Green while an engine takes sessions."""
        address = await self._directory.choose.remote(takes_slot=False)
        problem = "" if address else "no engine takes sessions"
        content = {"status": problem or "ok", "model": self._model_name}
        return JSONResponse(content, 503 if problem else 200)

    @app.get("/api/build_info")
    async def build_info(self) -> dict[str, str]:
        return build_facts()

    @app.get("/api/modules_info")
    async def modules_info(self) -> list[dict[str, str]]:
        engines = await self._directory.engines.remote()
        return [
            module_facts(self._model_name, one["num_used"], one["num_slots"]) for one in engines
        ]

    @app.get("/api/engines")
    async def engines(self, request: Request) -> Response:
        """Every engine, as Prometheus discovers what it reads."""
        try:
            self._ticket(request)
        except AccessError as error:
            return _refused(401, str(error), "authentication_error")
        addresses = [one["address"] for one in await self._directory.engines.remote()]
        return JSONResponse([{"targets": addresses, "labels": {"model": self._model_name}}])

    @app.get("/api/engine")
    async def engine(self, request: Request) -> Response:
        """The address for the next session, for clients that follow no redirects."""
        try:
            query = self._ticket(request)
        except AccessError as error:
            return _refused(401, str(error), "authentication_error")
        address = await self._directory.choose.remote()
        if address is None:
            return _refused(503, "every slot is taken; try again", "server_error")
        return JSONResponse({"address": address, "query": urlencode(query)})

    @app.api_route("/{path:path}", methods=METHODS)
    async def redirect(self, request: Request) -> Response:
        return await self._answer(request)

    @app.websocket("/{path:path}")
    async def redirect_socket(self, socket: WebSocket) -> None:
        answer = await self._answer(socket, takes_slot=socket.url.path in SESSION_PATHS)
        if answer.status_code == 503 and socket.url.path == PATH:
            await _tell_full(socket)
        else:
            await socket.send_denial_response(answer)

    async def _answer(self, request: Request | WebSocket, *, takes_slot: bool = False) -> Response:
        try:
            ticket = self._ticket(request)
        except AccessError as error:
            if takes_slot:  # nobody without a key may keep slots from others
                return _refused(401, str(error), "authentication_error")
            ticket = {}
        address = await self._directory.choose.remote(takes_slot=takes_slot)
        if address is None:
            return _refused(503, "every slot is taken; try again", "server_error")
        query = urlencode({**request.query_params, **ticket})
        place = f"//{address}{request.url.path}{'?' if query else ''}{query}"
        return Response(status_code=307, headers={"Location": place})

    def _ticket(self, request: Request | WebSocket) -> dict[str, str]:
        """What the client's query must have; raises `AccessError` if its key is not known."""
        key = realtime.key_of(self._access, request.headers, request.query_params)
        return {TICKET: self._access.ticket(key)} if key else {}
