"""Ogg Opus pages of a live client through ffmpeg, which gets two pipes and nothing else."""

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from nightscribe.audio.decode import DecodeConfig, kill_ffmpeg, start_ffmpeg
from nightscribe.audio.ffmpeg import find_ffmpeg, live_opus_command
from nightscribe.errors import NightscribeError

READ_BYTES = 1 << 16
END_S = 2.0


class OpusError(NightscribeError, ValueError):
    """What a client sent cannot be decoded."""


@dataclass(slots=True, eq=False)
class OpusDecoder:
    """Decodes the pages of one session as they come."""

    process: Any
    writer: asyncio.StreamWriter
    output: asyncio.ReadTransport
    reading: asyncio.Task[None]

    @classmethod
    async def start(
        cls, config: DecodeConfig, rate_hz: int, feed: Callable[[np.ndarray], Awaitable[Any]]
    ) -> Self:
        """Start ffmpeg; `feed` gets int16 samples at this rate."""
        command = live_opus_command(find_ffmpeg(config.ffmpeg), rate_hz)
        # Nobody would read what it says about damaged pages, and a full pipe would stop it.
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        process = start_ffmpeg(command, config, stdin=pipe, stderr=nowhere)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        output, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, process.stdin
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        return cls(process, writer, output, asyncio.create_task(_read(reader, feed)))

    async def write(self, data: bytes) -> None:
        """Hand over pages; waits while ffmpeg is behind."""
        if self.process.poll() is not None:
            raise OpusError("the pages are not Ogg Opus, or are damaged")
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        self.reading.cancel()
        self.output.close()
        await asyncio.to_thread(kill_ffmpeg, self.process)


async def _read(reader: asyncio.StreamReader, feed: Callable[[np.ndarray], Awaitable[Any]]) -> None:
    odd = b""
    while data := await reader.read(READ_BYTES):
        data = odd + data
        whole = len(data) // 2 * 2
        odd = data[whole:]
        await feed(np.frombuffer(data[:whole], "<i2"))
