"""Finds ffmpeg, builds its command lines and parses its messages.

It gets one local file and a pipe. Only demuxers of audio and video files are allowed, none that
follow a playlist, a manifest or an address to other files.
"""

import os
import re
import shutil
import subprocess
from functools import cache

import ffmpeg
import imageio_ffmpeg

from nightscribe.errors import NightscribeError

DEMUXERS = (
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
    """The version of the program, for the settings of a run."""
    return _about(program).split("\n")[0].removeprefix("ffmpeg version ").split(" Copyright")[0]


@cache
def _about(program: str) -> str:
    about = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60)
    return about.stdout


def decoding_command(program: str, path: str, sample_rate_hz: int, track: int = 0) -> list[str]:
    """The command that writes one audio stream of a file, all channels, as WAV to a pipe."""
    stream = ffmpeg.output(
        _SOURCE[f"a:{track}"],
        "pipe:1",
        af=_resampling(program, sample_rate_hz),
        format="wav",
        acodec="pcm_s16le",
        fflags="+bitexact",
        # Long metadata would overflow the header, whose sizes cannot be corrected in a pipe.
        map_metadata="-1",
    )
    arguments = stream.global_args(*_GLOBAL_OPTIONS).compile(cmd=program)
    # `file:` keeps a name from being read as an option or an address.
    input_url = f"file:{os.path.abspath(path)}"
    return [input_url if argument == _PLACEHOLDER else argument for argument in arguments]


def live_opus_command(program: str, sample_rate_hz: int) -> list[str]:
    """The command that decodes Ogg Opus from a pipe to mono samples on another, as they come."""
    source = ffmpeg.input(
        "pipe:0",
        format="ogg",
        protocol_whitelist="pipe",
        format_whitelist="ogg",
        probesize=32,
        analyzeduration=0,
    )
    stream = ffmpeg.output(
        source["a:0"], "pipe:1", format="s16le", ac=1, ar=sample_rate_hz, flush_packets=1
    )
    return stream.global_args("-hide_banner", "-nostats", "-loglevel", "error").compile(cmd=program)


def probing_command(program: str, path: str) -> list[str]:
    """The command that prints the header of a file and decodes nothing."""
    arguments = decoding_command(program, path, 8000)
    return [*arguments[: arguments.index("-i") + 2], *_GLOBAL_OPTIONS]


_GLOBAL_OPTIONS = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info")


# ffmpeg-python encodes its arguments as UTF-8, but file names may be other bytes.
_PLACEHOLDER = "the file"
_SOURCE = ffmpeg.input(_PLACEHOLDER, protocol_whitelist="file,pipe", format_whitelist=DEMUXERS)


def _resampling(program: str, sample_rate_hz: int) -> str:
    if "--enable-libsoxr" in _about(program):
        return f"aresample={sample_rate_hz}:resampler=soxr:precision=28"
    return f"aresample={sample_rate_hz}:filter_size=64:phase_shift=12:cutoff=0.975"


def num_audio_tracks(lines: list[str]) -> int:
    """The audio streams that ffmpeg lists of its input."""
    text = "\n".join(lines).partition("Output #")[0]
    return len(re.findall(r"Stream #0:[^\n]*?: Audio: ", text))


def stated_duration_s(lines: list[str]) -> float | None:
    """The duration in the header of the file, unless ffmpeg reports it as estimated."""
    text = "\n".join(lines)
    found = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", text)
    if found is None or "Estimating duration from bitrate" in text:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
