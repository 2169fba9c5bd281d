"""A client of the Kyutai protocol: sends audio as it comes, and yields the answers.

It works with moshi-server, too, which says less about the model: see `ServerFacts`.
"""

# N samples

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from math import inf
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgpack
import numpy as np

from nightscribe.errors import NightscribeError
from nightscribe.serving import kyutai_messages as messages

PATH = "/api/asr-streaming"
SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
END_MARKER = 0
# The longest that a server may take for the words after the last audio.
DRAIN_S = 60.0


class LiveError(NightscribeError):
    """The server refused or ended the session."""

    fault = "environment"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says about its model; these are moshi-server's, for the 2.6B."""

    prefix_frames: int = 13
    delay_frames: int = 32
    flush_frames: int = 50


@dataclass(frozen=True, slots=True)
class LiveWord:
    """A word as soon as it is known."""

    text: str
    start_s: float
    confidence: float | None


@dataclass(frozen=True, slots=True)
class LiveWordEnd:
    end_s: float


@dataclass(frozen=True, slots=True)
class LivePause:
    """The probability of a pause, by the model's VAD heads."""

    prs: tuple[float, ...]


LiveEvent = LiveWord | LiveWordEnd | LivePause


@dataclass(slots=True, eq=False)
class LiveClient:
    """One session: `async for event in LiveClient(url, key).transcribe(blocks)`."""

    url: str
    key: str = "public_token"
    rtf: float | None = None  # how much faster than real time; None: as the blocks come
    facts: ServerFacts = field(default_factory=ServerFacts)
    _duration_s: float = inf  # of the audio, once all of it was sent
    _failure: Exception | None = None  # of the audio

    async def transcribe(self, blocks: AsyncIterable[np.ndarray]) -> AsyncIterator[LiveEvent]:
        """Send int16 blocks; yield events until the last word is known."""
        headers = {"kyutai-api-key": self.key}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
            try:
                socket = await http.ws_connect(socket_url(self.url), compress=0, max_msg_size=0)
            except aiohttp.WSServerHandshakeError as error:
                raise LiveError(_refusal(self.url, error.status)) from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise LiveError(f"{self.url} cannot be reached: {error}") from None
            async with socket:
                async for event in self._session(socket, blocks):
                    yield event

    async def _session(
        self, socket: aiohttp.ClientWebSocketResponse, blocks: AsyncIterable[np.ndarray]
    ) -> AsyncIterator[LiveEvent]:
        self._take_facts(await _message_of(socket))
        sending = asyncio.create_task(self._send_or_close(socket, blocks))
        try:
            while (message := await _message_of(socket))["type"] != "Marker":
                event = self._event(message)
                if event is not None:
                    yield event
        except LiveError:
            if self._failure is not None:  # our own audio ended, and so the session
                raise self._failure from None
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _take_facts(self, ready: dict[str, Any]) -> None:
        known = self.facts
        self.facts = ServerFacts(
            ready.get("prefix_frames", known.prefix_frames),
            ready.get("delay_frames", known.delay_frames),
            ready.get("flush_frames", known.flush_frames),
        )

    def _event(self, message: dict[str, Any]) -> LiveEvent | None:
        lead_s = self.facts.prefix_frames * FRAME_SAMPLES / SAMPLE_RATE_HZ
        match message["type"]:
            case "Word":
                start_s = min(max(message["start_time"] - lead_s, 0.0), self._duration_s)
                return LiveWord(message["text"], start_s, message.get("confidence"))
            case "EndWord":
                end_s = max(message["stop_time"] - lead_s, 0.0)
                return LiveWordEnd(min(end_s, self._duration_s))
            case "Step":
                return LivePause(tuple(message["prs"]))
        return None

    async def _send_or_close(
        self, socket: aiohttp.ClientWebSocketResponse, blocks: AsyncIterable[np.ndarray]
    ) -> None:
        try:
            await self._send(socket, blocks)
        except Exception as error:
            self._failure = error
            await socket.close()

    async def _send(
        self, socket: aiohttp.ClientWebSocketResponse, blocks: AsyncIterable[np.ndarray]
    ) -> None:
        """The prefix, the audio, and silence until the last word must be known."""
        await _send_silence(socket, self.facts.prefix_frames)
        began_s, num_samples = asyncio.get_running_loop().time(), 0
        async for block_N in blocks:
            await socket.send_bytes(messages.audio(block_N))
            num_samples += len(block_N)
            if self.rtf is not None:
                due_s = began_s + num_samples / SAMPLE_RATE_HZ / self.rtf
                await asyncio.sleep(max(due_s - asyncio.get_running_loop().time(), 0))
        self._duration_s = num_samples / SAMPLE_RATE_HZ
        # The model's last frame may be incomplete; then the flush fills it up.
        await _send_silence(socket, self.facts.flush_frames)
        await socket.send_bytes(messages.marker(END_MARKER))
        await _send_silence(socket, self.facts.delay_frames + 1)


async def _send_silence(socket: aiohttp.ClientWebSocketResponse, num_frames: int) -> None:
    for _ in range(num_frames):
        await socket.send_bytes(messages.audio(np.zeros(FRAME_SAMPLES, np.int16)))


async def _message_of(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    try:
        message = await socket.receive(DRAIN_S)
    except TimeoutError:
        raise LiveError(f"the server says nothing for {DRAIN_S:g} s") from None
    if message.type != aiohttp.WSMsgType.BINARY:
        raise LiveError(f"the server ended the session (code {socket.close_code})")
    content = msgpack.unpackb(message.data)
    if content["type"] == "Error":
        raise LiveError(f"the server refuses: {content['message']}")
    return content


def socket_url(url: str) -> str:
    """The address of the socket on a server such as http://host:8080, or a whole address."""
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path if parts.path.strip("/") else PATH
    query = parts.query or "details=1"
    return urlunsplit((scheme, parts.netloc, path, query, ""))


def _refusal(url: str, status: int) -> str:
    reasons = {
        401: "the API key is not known; set api_key",
        403: "the server refuses this origin",
        404: "there is no such path; is it a server of this protocol?",
        503: "the server has too many connections; try again",
    }
    return f"{url}: {reasons.get(status, f'HTTP status {status}')}"
