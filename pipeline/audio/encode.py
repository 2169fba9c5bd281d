"""Samples to an audio file: WAV by the standard library, everything else by ffmpeg."""

import subprocess
import wave
from pathlib import Path
from typing import IO

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.ffmpeg import find_ffmpeg

FORMATS = ("wav", "flac", "opus", "mp3")
FULL_SCALE = 32767.0
ENCODING_S = 600.0  # the longest that ffmpeg may take


def as_int16(samples_N: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples from -1 to 1 in 16 bits; louder ones are clipped."""
    return np.rint(samples_N.clip(-1, 1) * FULL_SCALE).astype(np.int16)


def format_of(path: Path) -> str:
    """The format that a file's extension asks for; raises ValueError for another."""
    name = path.suffix.removeprefix(".").lower()
    if name not in FORMATS:
        raise ValueError(f"{path}: the extension must be one of {', '.join(FORMATS)}")
    return name


def write_audio(path: Path, samples_N: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write a file in the format of its extension; at no time is half a file visible."""
    kind, partial = format_of(path), path.with_name(f".{path.name}.partial")
    try:
        if kind == "wav":
            with partial.open("wb") as file:
                write_wav(file, samples_N, sample_rate_hz)
        else:
            _encode(partial, kind, samples_N, sample_rate_hz)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_wav(file: IO[bytes], samples_N: NDArray[np.float32], sample_rate_hz: int) -> None:
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(sample_rate_hz)
        wav.writeframes(as_int16(samples_N).tobytes())


def _encode(path: Path, kind: str, samples_N: NDArray[np.float32], sample_rate_hz: int) -> None:
    source = ffmpeg.input("pipe:0", format="s16le", ar=sample_rate_hz, ac=1)
    target = source.output(f"file:{path.absolute()}", format=kind)
    options = ("-nostdin", "-y", "-loglevel", "error")
    command = target.global_args(*options).compile(cmd=find_ffmpeg())
    data = as_int16(samples_N).tobytes()
    ended = subprocess.run(command, input=data, capture_output=True, timeout=ENCODING_S)
    if ended.returncode:
        raise OSError(f"{path} cannot be written: {ended.stderr.decode(errors='replace').strip()}")
