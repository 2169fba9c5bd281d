"""Seconds until the first sound of a server that speaks, as its clients hear it.

    nightscribe serve model=none tts=NAME voice=NAME
    python -m ops.benchmarks.speech_latency FIGURES.md --url http://127.0.0.1:8080 --texts 1,4

So many texts are begun at once, again and again. Over moshi-server's socket every word is sent by
itself, 50 ms after the one before, as a language model makes them; a POST sends the whole text.

- first sound: from the first word, or the request, until the first samples
- real time: seconds of sound for each second from the first samples to the last
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import msgpack

from nightscribe.benchmarks.report import Table

TEXT = "the night is long and the scribe writes on until the morning light comes"
WORD_INTERVAL_S = 0.05
RATE_HZ = 24_000


@dataclass(frozen=True, slots=True)
class Heard:
    """When the samples of one text came."""

    asked_s: float
    first_s: float
    last_s: float
    sound_s: float

    @property
    def speed(self) -> float:
        return self.sound_s / (self.last_s - self.first_s)


Speak = Callable[[aiohttp.ClientSession, str], Awaitable[Heard]]


async def over_socket(http: aiohttp.ClientSession, url: str) -> Heard:
    """Words one by one, and the sound meanwhile."""
    path = f"{url.replace('http', 'ws', 1)}/api/tts_streaming?format=PcmMessagePack"
    async with http.ws_connect(path, max_msg_size=0) as socket:
        asked_s, times_s, num_samples = time.monotonic(), [], 0
        writing = asyncio.create_task(_send_words(socket))
        async for message in socket:
            told = msgpack.unpackb(message.data)
            if told["type"] == "Error":
                raise RuntimeError(told["message"])
            if told["type"] == "Audio":
                times_s.append(time.monotonic())
                num_samples += len(told["pcm"])
        await writing
    return Heard(asked_s, times_s[0], times_s[-1], num_samples / RATE_HZ)


async def _send_words(socket: aiohttp.ClientWebSocketResponse) -> None:
    for word in TEXT.split():
        await socket.send_bytes(msgpack.packb({"type": "Text", "text": word}))
        await asyncio.sleep(WORD_INTERVAL_S)
    await socket.send_bytes(msgpack.packb({"type": "Eos"}))


async def over_post(http: aiohttp.ClientSession, url: str) -> Heard:
    """OpenAI's endpoint, raw samples of 16 bits."""
    body = {"model": "tts", "input": TEXT, "voice": "alloy", "response_format": "pcm"}
    asked_s, times_s, num_bytes = time.monotonic(), [], 0
    async with http.post(f"{url}/v1/audio/speech", json=body) as answer:
        answer.raise_for_status()
        async for piece in answer.content.iter_any():
            times_s.append(time.monotonic())
            num_bytes += len(piece)
    return Heard(asked_s, times_s[0], times_s[-1], num_bytes / 2 / RATE_HZ)


async def together(speak: Speak, url: str, num_texts: int, num_turns: int) -> list[Heard]:
    """After one turn that does not count."""
    found: list[Heard] = []
    async with aiohttp.ClientSession() as http:
        for turn in range(num_turns + 1):
            heard = await asyncio.gather(*(speak(http, url) for _ in range(num_texts)))
            found += heard if turn else []
    return found


def row(how: str, num_texts: int, found: list[Heard]) -> tuple[str | float, ...]:
    first_s = sorted(one.first_s - one.asked_s for one in found)
    speeds = [one.speed for one in found]
    return how, num_texts, median(first_s), first_s[-1], median(speeds), min(speeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--texts", default="1,4", help="texts at a time")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    rows = [
        row(how, num, asyncio.run(together(speak, given.url, num, given.turns)))
        for how, speak in (("socket, word by word", over_socket), ("POST", over_post))
        for num in map(int, given.texts.split(","))
    ]
    columns = ("how", "texts at a time", "first sound, median s", "slowest s")
    table = Table(
        title="The first sound of a server",
        columns=(*columns, "x real time, median", "slowest"),
        rows=rows,
        notes=(f"{given.turns} turns after one that does not count; {len(TEXT.split())} words.",),
    )
    given.figures.write_text(table.markdown())
    sys.stdout.write(table.markdown())


if __name__ == "__main__":
    main()
