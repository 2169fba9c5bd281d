"""Samples to an audio format as they come, through ffmpeg, which gets two pipes and no file."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.decode import DecodeConfig, kill_ffmpeg, start_ffmpeg
from nightscribe.audio.ffmpeg import find_ffmpeg

READ_BYTES = 1 << 14
PAGE_MICROSECONDS = 80_000  # of Ogg pages: a frame of the codec each
# Of ffmpeg, for each format of the wire: the container and the codec.
ENCODERS: dict[str, dict[str, Any]] = {
    "mp3": {"format": "mp3", "acodec": "libmp3lame", "audio_bitrate": "128k", "write_xing": 0},
    "opus": {"format": "ogg", "acodec": "libopus", "page_duration": PAGE_MICROSECONDS},
    "flac": {"format": "flac", "acodec": "flac"},
    "aac": {"format": "adts", "acodec": "aac", "audio_bitrate": "128k"},
    "wav": {"format": "wav", "acodec": "pcm_s16le", "fflags": "+bitexact"},
}


@dataclass(slots=True, eq=False)
class LiveEncoder:
    """Encodes one stream: `write` its samples, `close` the input, read `pieces` beside."""

    process: Any
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    source: asyncio.BaseTransport  # of the reader

    @classmethod
    async def start(cls, kind: str, config: DecodeConfig, rate_hz: int) -> Self:
        command = encoding_command(find_ffmpeg(config.ffmpeg), kind, rate_hz)
        process = start_ffmpeg(command, config, stdin=subprocess.PIPE)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        source, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, process.stdin
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        return cls(process, writer, reader, source)

    async def write(self, samples_N: NDArray[np.int16]) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(samples_N.astype("<i2").tobytes())
            await self.writer.drain()

    def close(self) -> None:
        """No samples will follow."""
        self.writer.close()

    async def pieces(self) -> AsyncIterator[bytes]:
        """What is encoded, as it comes."""
        while data := await self.reader.read(READ_BYTES):
            yield data

    async def end(self) -> None:
        """Kill ffmpeg if it still runs."""
        self.writer.close()
        self.source.close()
        await asyncio.to_thread(kill_ffmpeg, self.process)
        self.process.stderr.close()


def encoding_command(program: str, kind: str, rate_hz: int) -> list[str]:
    """The command that encodes mono samples from a pipe to another, without waiting for more."""
    source = ffmpeg.input(
        "pipe:0",
        format="s16le",
        ar=rate_hz,
        ac=1,
        protocol_whitelist="pipe",
        fflags="nobuffer",
        probesize=32,
        analyzeduration=0,
    )
    target = ffmpeg.output(source, "pipe:1", flush_packets=1, map_metadata="-1", **ENCODERS[kind])
    return target.global_args("-hide_banner", "-nostats", "-loglevel", "error").compile(cmd=program)
