"""A real server over the small model, in a thread of the test, and raw clients of it."""

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import aiohttp
import msgpack
import numpy as np

from nightscribe.audio.decode import DecodeConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.serving.access import Access
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.front import Server, ServerSettings, start_backend
from nightscribe.serving.kyutai_messages import audio
from nightscribe.serving.metrics import Metrics

NUM_SLOTS = 4
FRAME = 1920
SILENT_FRAME = np.zeros(FRAME, np.int16)


def settings(**serving):
    return ServerSettings(
        model=ModelConfig(name="tiny", checkpoint="models/tiny"),
        engine=EngineConfig(num_slots=NUM_SLOTS, round_steps=4, device="cpu"),
        serving=ServingConfig(port=0, **serving),
        decode=DecodeConfig(),
        guards=GuardsConfig(),
    )


class RunningServer:
    """A server whose loop runs in a thread; others may share its engine."""

    def __init__(self, **serving):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.backend = self.run(start_backend(settings(**serving)), 120)
        self.server = self.run(Server.start(self.backend))

    def run(self, coroutine, timeout_s=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    @property
    def port(self):
        return self.server.port

    @contextmanager
    def also(self, **serving):
        """Another server on another port, with its own limits, over the same engine."""
        config = ServingConfig(port=0, **serving)
        backend = replace(
            self.backend, config=config, access=Access(config), metrics=Metrics(), sockets=set()
        )
        backend.files = replace(self.backend.files, config=config)
        server = self.run(Server.start(backend))
        try:
            yield server
        finally:
            self.run(self._close(server))

    async def _close(self, server):
        server.backend.end_sessions()
        await server.runner.cleanup()

    def stop(self):
        self.run(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@asynccontextmanager
async def connected(port, path="/api/asr-streaming", **options):
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0, **options) as socket,
    ):
        yield socket


async def next_message(socket, timeout_s=60):
    message = await socket.receive(timeout_s)
    assert message.type == aiohttp.WSMsgType.BINARY, message
    return msgpack.unpackb(message.data)


async def until(socket, kind, timeout_s=60):
    """All messages up to the first of this kind."""
    found = []
    while not found or found[-1]["type"] != kind:
        found.append(await next_message(socket, timeout_s))
    return found


async def send(socket, **message):
    await socket.send_bytes(msgpack.packb(message))


async def flush(socket, num_frames, id=0):
    """Silence, a Marker, and silence until the Marker must be answered."""
    await socket.send_bytes(audio(np.zeros(num_frames * FRAME, np.int16)))
    await send(socket, type="Marker", id=id)
    await socket.send_bytes(audio(np.zeros(20 * FRAME, np.int16)))


async def heard(port, samples_N, size, flush_frames=19):
    """Every message that a client gets which sends samples in pieces of this size."""
    async with connected(port) as socket:
        assert await next_message(socket) == {"type": "Ready"}
        for first in range(0, len(samples_N), size):
            await socket.send_bytes(audio(samples_N[first : first + size]))
        await flush(socket, flush_frames)
        return await until(socket, "Marker")


def words_of(messages):
    """(text, start, end) of every word."""
    words = []
    for message in messages:
        if message["type"] == "Word":
            words.append([message["text"], message["start_time"], None])
        elif message["type"] == "EndWord":
            words[-1][2] = message["stop_time"]
    return words


def outline(messages):
    """The messages without how much audio waited, and without numbers that neighbours round."""
    left_out = ("buffered_pcm", "prs")
    return [{k: v for k, v in one.items() if k not in left_out} for one in messages]


async def facts_of(http, port):
    (facts,) = await (await http.get(f"http://127.0.0.1:{port}/api/modules_info")).json()
    return facts


async def until_free(http, port, count):
    for _ in range(100):
        facts = await facts_of(http, port)
        if int(facts["total_slots"]) - int(facts["used_slots"]) == count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(facts)
