"""Speech of a language that is heard before recordings of that language, and left out again."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.records import primary_language

MAX_PRIMER_S = 30
HEX_DIGITS = 16

Primers = dict[str, NDArray[np.int16]]


def read_primers(files: Mapping[str, str], decode: DecodeConfig, rate_hz: int) -> Primers:
    """The samples for each language, read here: workers need not reach its file."""
    primers = {}
    for language, audio in files.items():
        samples_N = _primer(audio, decode, rate_hz)
        if len(samples_N) > MAX_PRIMER_S * rate_hz:
            duration_s = len(samples_N) / rate_hz
            raise ValueError(
                f"primers.{language}={audio} lasts {duration_s:.0f} s, not {MAX_PRIMER_S} at most"
            )
        primers[primary_language(language)] = samples_N
    return primers


def digests(primers: Primers) -> dict[str, str]:
    """What tells primers apart, by language."""
    return {
        language: sha256(samples_N.tobytes()).hexdigest()[:HEX_DIGITS]
        for language, samples_N in sorted(primers.items())
    }


def _primer(audio: str, decode: DecodeConfig, rate_hz: int) -> NDArray[np.int16]:
    samples_N, outcome = read_waveform(Path(audio), decode, rate_hz)
    if not len(samples_N):
        raise ValueError(f"{audio} cannot be decoded: {outcome.detail} ({outcome.reason})")
    return samples_N
