"""Many short sessions of a live server: `python -m ops.benchmarks.live_soak --url URL --pid PID`.

    python -m ops.benchmarks.toy_checkpoint FOLDER
    nightscribe serve model=custom model.checkpoint=FOLDER engine.device=cpu
    python -m ops.benchmarks.live_soak --piece-s 0.4 --silence-frames 0 --sessions 24000 --pid PID

serves random weights: thousands of sessions in minutes, and words that depend on every frame.

Every session sends a piece of a sample, as fast as the server takes it, in messages of random
sizes, and must hear the words that the same piece gave alone at the beginning: what a user leaves
behind in a slot would change the words of the next. Some sessions end in the middle, by a close, by
a reset of the connection, or with audio that nobody reads. The memory of the server's processes is
read from /proc every few seconds: its median in the last fifth, over that of the second fifth.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import aiohttp
import msgpack
import numpy as np

from nightscribe.jobs.file import read_audio
from nightscribe.serving.client import FRAME_SAMPLES, SAMPLE_RATE_HZ, socket_url
from nightscribe.serving.kyutai_messages import audio

LOOK_S = 5.0
CUT_SHARE = 0.1  # sessions that end in the middle
MIB = 2**20


@dataclass(slots=True)
class Soak:
    """What the sessions are, and what they were."""

    url: str
    max_sessions: int
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory_mib: list[dict[str, float]] = field(default_factory=list)


def pieces(piece_s: float, silence_frames: int) -> dict[str, np.ndarray]:
    """Pieces of the samples by name, each with silence after it, so that its last word ends."""
    size, found = int(piece_s * SAMPLE_RATE_HZ), {}
    silence_N = np.zeros(silence_frames * FRAME_SAMPLES, np.int16)
    for name in ("bella", "alice", "daniel", "fenrir"):
        sound_N = read_audio(f"samples/{name}.opus")
        for first in range(0, len(sound_N) - size, size):
            piece_N = np.concatenate([sound_N[first : first + size], silence_N])
            found[f"{name}-{first // size}"] = piece_N
    return found


async def heard(
    socket: aiohttp.ClientWebSocketResponse, sound_N: np.ndarray, size: int, delay_frames: int
) -> str:
    """The words of a whole session."""
    for first in range(0, len(sound_N), size):
        await socket.send_bytes(audio(sound_N[first : first + size]))
    await socket.send_bytes(msgpack.packb({"type": "Marker", "id": 0}))
    await socket.send_bytes(audio(np.zeros(delay_frames * FRAME_SAMPLES, np.int16)))
    words: list[str] = []
    async for message in socket:
        content = msgpack.unpackb(message.data)
        if content["type"] == "Word":
            words.append(f"{content['text']}@{content['start_time']:.2f}")
        elif content["type"] == "Marker":
            return " ".join(words)
        elif content["type"] == "Error":
            return content["message"]
    return f"closed with {socket.close_code}"


async def cut_short(socket: aiohttp.ClientWebSocketResponse, sound_N: np.ndarray, how: str) -> None:
    """A session that ends in the middle."""
    await socket.send_bytes(audio(sound_N))
    if how == "unread":
        await socket.send_bytes(audio(np.zeros(9 * SAMPLE_RATE_HZ, np.int16)))
    if how != "closed":
        socket._response.connection.transport.abort()


async def one_session(
    http: aiohttp.ClientSession,
    soak: Soak,
    draw: random.Random,
    sounds: dict[str, np.ndarray],
    expected: dict[str, str],
) -> None:
    name, size = draw.choice(list(sounds)), draw.choice([480, 1920, 5000, 24_000])
    async with http.ws_connect(socket_url(soak.url), compress=0) as socket:
        first = msgpack.unpackb((await socket.receive()).data)
        if first["type"] != "Ready":
            soak.ends["full"] += 1
            return
        if draw.random() < CUT_SHARE:
            how = draw.choice(["closed", "reset", "unread"])
            await cut_short(socket, sounds[name], how)
            soak.ends[how] += 1
            return
        found = await heard(socket, sounds[name], size, first["delay_frames"])
    soak.ends["whole"] += 1
    if found != expected[name]:
        soak.wrong.append(f"{name}: {found!r} instead of {expected[name]!r}")


async def user(
    soak: Soak,
    seed: int,
    sounds: dict[str, np.ndarray],
    expected: dict[str, str],
    end_s: float,
) -> None:
    """Sessions one after the other."""
    draw = random.Random(seed)
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < end_s and sum(soak.ends.values()) < soak.max_sessions:
            try:
                await one_session(http, soak, draw, sounds, expected)
            except (aiohttp.ClientError, OSError, TypeError) as error:
                soak.ends[type(error).__name__] += 1


def processes(pid: int) -> Iterator[int]:
    """The process and all below it."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from processes(int(child))


def memory_mib(pid: int) -> dict[str, float]:
    """Memory of their own and file descriptors of the server's processes."""
    found = {"descriptors": 0.0}
    for one in processes(pid):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        own = next(line for line in lines if line.startswith("Pss_Anon:"))
        found[f"process {one}"] = round(int(own.split()[1]) * 1024 / MIB, 1)
        found["descriptors"] += len(list(Path(f"/proc/{one}/fd").iterdir()))
    return found


async def watch(soak: Soak, pid: int) -> None:
    while True:
        soak.memory_mib.append(memory_mib(pid))
        await asyncio.sleep(LOOK_S)


async def run(
    soak: Soak, sounds: dict[str, np.ndarray], pid: int, num_users: int, duration_s: float
) -> None:
    async with aiohttp.ClientSession() as http:
        expected = {}
        for name, sound_N in sounds.items():
            async with http.ws_connect(socket_url(soak.url), compress=0) as socket:
                ready = msgpack.unpackb((await socket.receive()).data)
                delay_frames = ready["delay_frames"]
                expected[name] = await heard(socket, sound_N, FRAME_SAMPLES, delay_frames)
    watching = asyncio.create_task(watch(soak, pid))
    end_s = time.monotonic() + duration_s
    users = [user(soak, seed, sounds, expected, end_s) for seed in range(num_users)]
    await asyncio.gather(*users)
    watching.cancel()


def summary(soak: Soak, duration_s: float) -> dict:
    num_sessions = sum(soak.ends.values()) - soak.ends["full"]
    fifth = max(len(soak.memory_mib) // 5, 1)
    growth = {}
    for name in soak.memory_mib[-1]:
        early = median(one.get(name, 0.0) for one in soak.memory_mib[fifth : 2 * fifth])
        late = median(one.get(name, 0.0) for one in soak.memory_mib[-fifth:])
        growth[name] = {"second_fifth": early, "last_fifth": late}
    return {
        "sessions": num_sessions,
        "sessions_per_h": round(num_sessions / duration_s * 3600),
        "ends": dict(soak.ends),
        "wrong": len(soak.wrong),
        "examples": soak.wrong[:5],
        "memory_mib": growth,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--pid", type=int, required=True, help="of the server's front")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="end after so many")
    parser.add_argument("--piece-s", type=float, default=1.2)
    parser.add_argument("--silence-frames", type=int, default=19, help="after each piece")
    given = parser.parse_args()
    soak, began_s = Soak(given.url, given.sessions), time.monotonic()
    sounds = pieces(given.piece_s, given.silence_frames)
    asyncio.run(run(soak, sounds, given.pid, given.users, given.minutes * 60))
    print(json.dumps(summary(soak, time.monotonic() - began_s), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
