"""The ffmpeg program: which one, what it may read, and what it says.

It is given one local file and a pipe. Of its readers only those of real sound and video files are
allowed, none that follow a playlist, a manifest or an address to other files.
"""

import os
import re
import shutil
import subprocess
from functools import cache

import ffmpeg
import imageio_ffmpeg

from nightscribe.errors import NightscribeError

READERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,g722,g726,g726le,gsm,"
    "loas,matroska,mov,mp3,mpeg,mpegts,mpegvideo,ogg,opus,rm,sox,tta,voc,w64,wav,webm,wsaud,wv,xwma"
)


class FfmpegError(NightscribeError, ValueError):
    """There is no usable ffmpeg."""

    fault = "environment"


@cache
def find_ffmpeg(configured: str | None = None) -> str:
    """The configured program, else the system's, else the one that comes with imageio-ffmpeg."""
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise FfmpegError(f"there is no program {configured!r} to decode with")
        return found
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


@cache
def version(program: str) -> str:
    """What the program calls itself, for the record of a run."""
    return _about(program).split("\n")[0].removeprefix("ffmpeg version ").split(" Copyright")[0]


@cache
def _about(program: str) -> str:
    about = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60)
    return about.stdout


def decoding_command(program: str, path: str, sample_rate_hz: int) -> list[str]:
    """The words that write the first audio stream of one file, all channels, as WAV to a pipe."""
    stream = ffmpeg.output(
        _SOURCE["a:0"],
        "pipe:1",
        af=_resampling(program, sample_rate_hz),
        format="wav",
        acodec="pcm_s16le",
        fflags="+bitexact",
        # Long texts would burst the header, whose sizes cannot be mended in a pipe.
        map_metadata="-1",
    )
    words = stream.global_args(*_MANNERS).compile(cmd=program)
    # `file:` keeps a name from being read as an option or an address.
    named = f"file:{os.path.abspath(path)}"
    return [named if word == _NAMELESS else word for word in words]


def probing_command(program: str, path: str) -> list[str]:
    """The words that make ffmpeg tell what a file is and decode nothing."""
    words = decoding_command(program, path, 8000)
    return [*words[: words.index("-i") + 2], *_MANNERS]


_MANNERS = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info")


# The library hashes its words as UTF-8, which the names of files need not be.
_NAMELESS = "the file"
_SOURCE = ffmpeg.input(_NAMELESS, protocol_whitelist="file,pipe", format_whitelist=READERS)


def _resampling(program: str, sample_rate_hz: int) -> str:
    if "--enable-libsoxr" in _about(program):
        return f"aresample={sample_rate_hz}:resampler=soxr:precision=28"
    return f"aresample={sample_rate_hz}:filter_size=64:phase_shift=12:cutoff=0.975"


def stated_duration_s(lines: list[str]) -> float | None:
    """What the file's header says, unless ffmpeg itself calls it a guess."""
    text = "\n".join(lines)
    found = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", text)
    if found is None or "Estimating duration from bitrate" in text:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
