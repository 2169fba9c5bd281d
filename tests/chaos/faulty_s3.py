"""A loopback proxy before an S3 server that misbehaves as object stores do, by a seeded draw."""

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

FAULTS = ("unavailable", "lost_reply", "slow", "reset", "truncated", "short_length")
# Of an output, in the path of a key or in the prefix of a listing.
FOLDER = re.compile(r"_run/\w+|transcripts|failures|voices")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Faults:
    """Which share of the requests goes wrong, and what went wrong so far."""

    share: float
    seed: int = 0
    kinds: tuple[str, ...] = FAULTS
    slow_s: float = 0.5
    seen: Counter = field(default_factory=Counter)
    requests: Counter = field(default_factory=Counter)  # by method and folder, broken or not

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def draw(self, method: str, path: str = "") -> str | None:
        found = FOLDER.search(path)
        with self._lock:
            self.requests[method, found[0] if found else ""] += 1
            if self._random.random() >= self.share:
                return None
            kind = self._random.choice(self.kinds)
            self.seen[kind] += 1
            return kind


class FaultyS3:
    """`with FaultyS3(port, Faults(0.1)) as proxy:` then talk to `proxy.endpoint`."""

    def __init__(self, server_port: int, faults: Faults) -> None:
        self.faults = faults
        handler = type("Handler", (_Handler,), {"server_port": server_port, "faults": faults})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyS3":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that are killed leave in the middle of a sentence."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_port: int
    faults: Faults

    def handle_any(self) -> None:
        body = self._read_body()
        fault = self.faults.draw(self._kind(), unquote(self.path))
        if fault == "unavailable":
            return self._reply(503, {}, b"<Error><Code>SlowDown</Code></Error>")
        if fault == "slow":
            time.sleep(self.faults.slow_s)
        status, headers, answer = self._forward(body)
        if fault == "reset":
            return self._reset()
        if fault == "lost_reply":  # the server did it, the client is told it failed
            return self._reply(500, {}, b"<Error><Code>InternalError</Code></Error>")
        self._reply(status, headers, answer, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def _kind(self) -> str:
        return "LIST" if self.command == "GET" and "list-type=" in self.path else self.command

    def _read_body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        server = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        # The Host header stays as the client signed it.
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in HOP_BY_HOP | {"expect"}
        }
        try:
            server.request(
                self.command, self.path, body, headers | {"Content-Length": str(len(body))}
            )
            reply = server.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            server.close()

    def _reply(
        self, status: int, headers: dict[str, str], body: bytes, fault: str | None = None
    ) -> None:
        self.send_response_only(status)
        length = len(body)
        for name, value in headers.items():
            if name.lower() == "content-length" and self.command == "HEAD":
                length = int(value)
            elif name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        damaged = fault in ("truncated", "short_length") and len(body) > 1
        self.send_header(
            "Content-Length", str(length // 2 if damaged and fault == "short_length" else length)
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if damaged else body)
        if damaged or fault:
            self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass
