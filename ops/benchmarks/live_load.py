"""Load of a live server: `python -m ops.benchmarks.live_load --url http://127.0.0.1:8080 -n 8`.

An open loop: every sender sends a frame each 80 ms from a random phase, whatever comes back, so
that a slow server cannot slow its own load down. Prints the quantiles of

- step: from the sending of a frame's last sample to the arrival of its Step
- word: from the end of a word's sound, as the server times it, to the arrival of its EndWord
- ready: from the begin of the connection to Ready, while the other sessions run
- flush: from a Marker and the silence that it needs, sent at once, to its answer

and the slope of `buffered_pcm`, which is 0 while the server keeps up. `--idle` of the sessions send
one second and then nothing; `--flood` of them send everything at once; `--deaf` never read.
`--connects` a minute open a connection beside them and leave it at once, in the middle of their
request, or after they were refused for a wrong key.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace

import aiohttp
import msgpack
import numpy as np
from yarl import URL

from nightscribe.jobs.file import read_audio
from nightscribe.serving.client import FRAME_SAMPLES, SAMPLE_RATE_HZ, socket_url
from nightscribe.serving.kyutai_messages import audio

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
PAUSE_S = 1.5
NUM_SPEAKERS = 8
QUANTILES = (0.5, 0.95, 0.99, 1.0)


@dataclass(slots=True)
class Measured:
    """What the paced sessions saw after the ramp."""

    step_s: list[float] = field(default_factory=list)
    word_s: list[float] = field(default_factory=list)
    buffered: list[tuple[float, int]] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    flush_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    connects: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The sessions of one measurement."""

    url: str
    key: str
    num_paced: int
    num_idle: int
    num_flood: int
    num_deaf: int
    connects_per_min: int
    duration_s: float
    ramp_s: float
    # Made before: that takes longer than a frame.
    frames: list[list[bytes]] = field(default_factory=list)


def endless_frames(seed: int) -> list[bytes]:
    """A minute of samples in a random order with pauses, as messages."""
    draw, pieces = random.Random(seed), []
    names = ["bella", "alice", "daniel"]
    sounds = {name: read_audio(f"samples/{name}.opus") for name in names}
    while sum(map(len, pieces)) < 60 * SAMPLE_RATE_HZ:
        pieces += [sounds[draw.choice(names)], np.zeros(int(PAUSE_S * SAMPLE_RATE_HZ), np.int16)]
    sound_N = np.concatenate(pieces)
    whole = len(sound_N) // FRAME_SAMPLES
    return [audio(frame_N) for frame_N in np.split(sound_N[: whole * FRAME_SAMPLES], whole)]


async def paced(http: aiohttp.ClientSession, load: Load, seed: int, measured: Measured) -> None:
    """One session that sends on schedule."""
    frames, draw = load.frames[seed % len(load.frames)], random.Random(seed)
    await asyncio.sleep(draw.random() * FRAME_S)
    asked_s = time.monotonic()
    async with http.ws_connect(socket_url(load.url), compress=0) as socket:
        ready = msgpack.unpackb((await socket.receive()).data)
        began_s, sent_s = time.monotonic(), []
        measured.ready_s.append(began_s - asked_s)
        receiving = asyncio.create_task(receive(socket, began_s, sent_s, load, measured))
        while time.monotonic() - began_s < load.duration_s:
            due_s = began_s + (len(sent_s) + 1) * FRAME_S
            await asyncio.sleep(max(due_s - time.monotonic(), 0))
            sent_s.append(due_s)  # the moment it was due: a late sender counts against the server
            await socket.send_bytes(frames[len(sent_s) % len(frames)])
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        measured.flush_s.append(await flushed(socket, ready["delay_frames"]))


async def flushed(socket: aiohttp.ClientWebSocketResponse, num_frames: int) -> float:
    """How long the last words take when a client flushes."""
    began_s = time.monotonic()
    await socket.send_bytes(msgpack.packb({"type": "Marker", "id": 0}))
    for _ in range(num_frames):
        await socket.send_bytes(audio(np.zeros(FRAME_SAMPLES, np.int16)))
    while msgpack.unpackb((await socket.receive()).data)["type"] != "Marker":
        pass
    return time.monotonic() - began_s


async def receive(
    socket: aiohttp.ClientWebSocketResponse,
    began_s: float,
    sent_s: list[float],
    load: Load,
    measured: Measured,
) -> None:
    async for message in socket:
        now_s, content = time.monotonic(), msgpack.unpackb(message.data)
        if content["type"] == "Error":
            measured.errors.append(content["message"])
        if now_s - began_s < load.ramp_s:
            continue
        if content["type"] == "Step":
            measured.step_s.append(now_s - sent_s[content["step_idx"] - 1])
            measured.buffered.append((now_s, content["buffered_pcm"]))
        elif content["type"] == "EndWord":
            measured.word_s.append(now_s - began_s - content["stop_time"])


async def idle(http: aiohttp.ClientSession, load: Load) -> None:
    async with http.ws_connect(socket_url(load.url)) as socket:
        for frame in load.frames[0][:12]:
            await socket.send_bytes(frame)
        await drained(socket, load)


async def flood(http: aiohttp.ClientSession, load: Load) -> None:
    async with http.ws_connect(socket_url(load.url)) as socket:
        reading = asyncio.create_task(drained(socket, load))
        while not reading.done() and not socket.closed:
            for frame in load.frames[0]:
                await socket.send_bytes(frame)
                await asyncio.sleep(0)  # the paced senders share this loop
                if reading.done():
                    break


async def deaf(http: aiohttp.ClientSession, load: Load) -> None:
    """Sends as the paced ones; the library stops to read when its queue is full."""
    async with http.ws_connect(socket_url(load.url)) as socket:
        for frame in load.frames[0][: int(load.duration_s / FRAME_S)]:
            await socket.send_bytes(frame)
            await asyncio.sleep(FRAME_S)


async def connects(load: Load, measured: Measured) -> None:
    """Connections on schedule, none of which becomes a session."""
    url, began_s = URL(load.url), time.monotonic()
    request = (
        f"GET /api/asr-streaming HTTP/1.1\r\nHost: {url.host}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nkyutai-api-key: wrong\r\n\r\n"
    ).encode()
    kinds = (("silent", b""), ("half a request", request[:40]), ("wrong key", request))
    tasks = []
    for number in range(round(load.duration_s * load.connects_per_min / 60)):
        due_s = began_s + number * 60 / load.connects_per_min
        await asyncio.sleep(max(due_s - time.monotonic(), 0))
        tasks.append(asyncio.create_task(one_connect(url, *kinds[number % 3], measured)))
    await asyncio.gather(*tasks)


async def one_connect(url: URL, kind: str, sent: bytes, measured: Measured) -> None:
    try:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(sent)
        await writer.drain()
        answer = (await reader.readline()).decode().strip() if kind == "wrong key" else "left"
        writer.transport.abort()
        measured.connects[f"{kind}: {answer}"] += 1
    except OSError as error:
        measured.connects[f"{kind}: {type(error).__name__}"] += 1


async def drained(socket: aiohttp.ClientWebSocketResponse, load: Load) -> None:
    try:
        async with asyncio.timeout(load.duration_s):
            async for _ in socket:
                pass
    except TimeoutError:
        pass


async def measure(load: Load) -> Measured:
    measured, headers = Measured(), {"kyutai-api-key": load.key}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as http:
        others = [
            *(idle(http, load) for _ in range(load.num_idle)),
            *(flood(http, load) for _ in range(load.num_flood)),
            *(deaf(http, load) for _ in range(load.num_deaf)),
            connects(load, measured),
        ]
        sessions = [paced(http, load, seed, measured) for seed in range(load.num_paced)]
        ended = await asyncio.gather(*sessions, *others, return_exceptions=True)
    measured.errors += [repr(one) for one in ended if isinstance(one, Exception)]
    return measured


def summary(load: Load, measured: Measured) -> dict:
    settings = asdict(replace(load, key="...", frames=[]))
    result: dict = {"load": settings, "errors": sorted(set(measured.errors))}
    result["connects"] = dict(measured.connects)
    for name in ("step", "word", "ready", "flush"):
        values = getattr(measured, f"{name}_s")
        found = np.quantile(values, QUANTILES) * 1000 if values else [float("nan")] * 4
        quantiles = dict(zip(("p50", "p95", "p99", "max"), np.round(found, 1), strict=True))
        result[f"{name}_ms"] = quantiles | {"count": len(values)}
    if len(measured.buffered) > 1:
        times_s, samples = np.array(measured.buffered).T
        slope = np.polyfit(times_s - times_s[0], samples / SAMPLE_RATE_HZ, 1)[0]
        result["buffered_s_per_s"] = round(float(slope), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", default="public_token")
    parser.add_argument("-n", "--paced", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--flood", type=int, default=0)
    parser.add_argument("--deaf", type=int, default=0)
    parser.add_argument("--connects", type=int, default=0, help="a minute")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--ramp", type=float, default=5.0)
    given = parser.parse_args()
    frames = [endless_frames(seed) for seed in range(NUM_SPEAKERS)]
    for num_paced in given.paced:
        load = Load(
            url=given.url,
            key=given.key,
            num_paced=num_paced,
            num_idle=given.idle,
            num_flood=given.flood,
            num_deaf=given.deaf,
            connects_per_min=given.connects,
            duration_s=given.seconds,
            ramp_s=given.ramp,
            frames=frames,
        )
        print(json.dumps(summary(load, asyncio.run(measure(load)))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
