"""What a file says of itself, from its header alone."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.audio import ffmpeg
from pipeline.audio.decode import DecodeConfig, end, start

STREAM = re.compile(r"Stream #\d+:\d+.*?: Audio: (\w+).*?, (\d+) Hz, ([^,]+)(?:.*, (\d+) kb/s)?")
FORMAT = re.compile(r"Input #0, ([\w,]+), from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The first audio stream of a file; None for what the header leaves open."""

    container: str
    codec: str
    sample_rate_hz: int
    num_channels: int | None
    duration_s: float | None  # None where the header has none and ffmpeg would guess
    bits_per_s: int | None


def probe(path: str | Path, config: DecodeConfig) -> Probe | None:
    """Read the header; None where there is no sound in it."""
    return _read(what_ffmpeg_says(path, config).splitlines())


def what_ffmpeg_says(path: str | Path, config: DecodeConfig) -> str:
    """Its lines about the header of a file, read under the same limits as any decoding."""
    program = ffmpeg.find_ffmpeg(config.ffmpeg)
    process = start(ffmpeg.probing_command(program, str(path)), config)
    try:
        said = process.communicate(timeout=config.stall_s)[1]
    except subprocess.TimeoutExpired:
        return f"reading the header took over {config.stall_s:g} s"
    finally:
        end(process)
    return said.decode(errors="replace")


def _read(lines: list[str]) -> Probe | None:
    text = "\n".join(lines)
    stream, container = STREAM.search(text), FORMAT.search(text)
    if stream is None or container is None:
        return None
    codec, rate, layout, kilobits = stream.groups()
    return Probe(
        container=container[1].split(",")[0],
        codec=codec,
        sample_rate_hz=int(rate),
        num_channels=ffmpeg.num_channels_of(layout.strip()),
        duration_s=ffmpeg.stated_duration_s(lines),
        bits_per_s=int(kilobits) * 1000 if kilobits else None,
    )
