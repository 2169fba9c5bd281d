"""Compresses audio to MP3 for the report, and computes the peaks of its waveform."""

import subprocess
import tempfile
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from nightscribe.report.content import EmbeddedAudio

Samples = NDArray[np.int16]

NUM_PEAKS = 800
PEAK_SCALE = 100
BIT_RATE = "32k"


def embed_audio(samples_N: Samples, sample_rate_hz: int) -> EmbeddedAudio:
    """The samples as MP3, with their peaks."""
    duration_s = len(samples_N) / sample_rate_hz
    return EmbeddedAudio(_mp3(samples_N, sample_rate_hz), peaks(samples_N), duration_s)


def peaks(samples_N: Samples) -> tuple[int, ...]:
    """The loudest sample of each of a few hundred equal parts, in percent of the loudest of all."""
    loudness_N = np.abs(samples_N.astype(np.int32))
    loudest = loudness_N.max(initial=1)
    parts = np.array_split(loudness_N, min(NUM_PEAKS, max(len(loudness_N), 1)))
    return tuple(int(part.max(initial=0) * PEAK_SCALE // loudest) for part in parts)


def _mp3(samples_N: Samples, sample_rate_hz: int) -> bytes:
    # ffmpeg writes the encoder delay only into a seekable file; without it, clicks play late.
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "audio.mp3"
        source = ffmpeg.input("pipe:", format="s16le", ar=sample_rate_hz, ac=1)
        command = source.output(str(target), audio_bitrate=BIT_RATE).compile(
            cmd=[imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
        )
        subprocess.run(command, input=samples_N.tobytes(), check=True, capture_output=True)
        return target.read_bytes()
