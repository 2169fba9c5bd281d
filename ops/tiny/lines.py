"""Sends sound over telephone lines and through lossy codecs, with FFmpeg.

N samples.
"""

import subprocess
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np

from ops.tiny.corpus import RATE_HZ


class Line(NamedTuple):
    """A codec with its container, rate and further options of the encoder."""

    codec: str
    container: str
    rate_hz: int
    options: tuple[str, ...] = ()


LINES = (
    Line("g722", "g722", 16000),
    Line("g722", "g722", 16000),  # twice: most telephone prompts are of this kind
    Line("pcm_mulaw", "wav", 8000),
    Line("pcm_alaw", "wav", 8000),
    Line("adpcm_ima_wav", "wav", 8000),
    Line("libopencore_amrnb", "amr", 8000, ("-b:a", "12.2k")),
    Line("libopencore_amrnb", "amr", 8000, ("-b:a", "6.7k")),
    Line("libmp3lame", "mp3", 16000, ("-b:a", "24k")),
    Line("libmp3lame", "mp3", 24000, ("-b:a", "32k")),
    Line("libopus", "ogg", 16000, ("-b:a", "10k")),
)
# Where MP3 and AMR put the first sample depends on the tools, so it is measured.
MAX_LAG = 4800


def over_line(samples_N: np.ndarray, line: Line) -> np.ndarray:
    """What comes out at the other end, as long as what went in and at the same times."""
    heard_N = _decoded(_encoded(samples_N, line), line)
    return _shifted(heard_N, lag(samples_N, heard_N), len(samples_N))


def lag(sent_N: np.ndarray, heard_N: np.ndarray) -> int:
    """How many samples late the sound comes."""
    length = len(sent_N) + MAX_LAG
    product = np.conj(np.fft.rfft(sent_N, length)) * np.fft.rfft(heard_N[: len(sent_N)], length)
    alike_N = np.fft.irfft(product, length)
    late, early = int(alike_N[:MAX_LAG].argmax()), int(alike_N[: -MAX_LAG - 1 : -1].argmax()) + 1
    return late if alike_N[late] >= alike_N[-early] else -early


def _shifted(heard_N: np.ndarray, late: int, num_samples: int) -> np.ndarray:
    kept_N = heard_N[late:] if late >= 0 else np.pad(heard_N, (-late, 0))
    kept_N = kept_N[:num_samples]
    return np.pad(kept_N, (0, num_samples - len(kept_N)))


def _encoded(samples_N: np.ndarray, line: Line) -> bytes:
    pcm = (np.clip(samples_N, -1, 1) * 32767).astype(np.int16).tobytes()
    source = ["-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "pipe:0"]
    target = ["-ar", str(line.rate_hz), "-c:a", line.codec, *line.options]
    return _ffmpeg([*source, *target, "-f", line.container, "pipe:1"], pcm)


def _decoded(encoded: bytes, line: Line) -> np.ndarray:
    source = ["-f", line.container, "-i", "pipe:0"]
    pcm = _ffmpeg([*source, "-ar", str(RATE_HZ), "-ac", "1", "-f", "s16le", "pipe:1"], encoded)
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768


def _ffmpeg(arguments: list[str], piped: bytes) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-threads", "1", *arguments]
    return subprocess.run(command, input=piped, capture_output=True, check=True).stdout
