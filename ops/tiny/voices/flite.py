"""Flite: quick, robotic voices (`apt-get install flite`), with the end of every phone."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ops.tiny.corpus import RATE_HZ, Spoken, TimedWord

PITCH_HZ = {"slt": 170, "awb": 130, "kal16": 110, "rms": 110}
LEAD_S = 0.12
# What flite's own lexicon says wrongly.
RESPELT = {"xray": "exray", "m": "em", "p": "pee", "close": "kloze", "lima": "leema"}


def speak(utterance_id: str, text: str, voice: str, rng: np.random.Generator) -> Spoken | None:
    """One utterance at a drawn pace and pitch; None where phones and words cannot be matched."""
    stretch = rng.uniform(0.78, 1.25)
    pitch_hz = PITCH_HZ[voice] * rng.uniform(0.8, 1.3)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        ends = _flite(_respelt(text), voice, stretch, pitch_hz, wav)
        sound, rate_hz = soundfile.read(wav, dtype="float32")
    counts = [len(_flite_phones(word, voice)) for word in _respelt(text).split()]
    spoken = [(phone, start, end) for phone, start, end in ends if phone != "pau"]
    if len(spoken) != sum(counts):
        return None
    sound_N = np.concatenate(
        [np.zeros(int(LEAD_S * RATE_HZ)), soxr.resample(sound, rate_hz, RATE_HZ)]
    )
    phones = tuple((p, start + LEAD_S, end + LEAD_S) for p, start, end in spoken)
    return Spoken(
        utterance_id, voice, _int16(sound_N), _words(text.split(), counts, phones), phones
    )


def _flite(
    text: str, voice: str, stretch: float, pitch_hz: float, wav: Path
) -> list[tuple[str, float, float]]:
    """Say a text into a file; returns its phones and from when to when each lasts."""
    settings = ["--setf", f"duration_stretch={stretch}", "--setf", f"int_f0_target_mean={pitch_hz}"]
    command = ["flite", "-voice", voice, *settings, "-psdur", "-t", text, "-o", str(wav)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ends = [(phone, float(end_s)) for phone, end_s in (p.rsplit(":", 1) for p in printed)]
    starts_s = [0.0, *(end_s for _, end_s in ends)]
    return [(p, start_s, end_s) for (p, end_s), start_s in zip(ends, starts_s, strict=False)]


def _flite_phones(word: str, voice: str) -> list[str]:
    command = ["flite", "-voice", voice, "-ps", "-t", word, "-o", "none"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [phone for phone in printed.split() if phone != "pau"]


def _words(
    texts: list[str], counts: list[int], phones: tuple[tuple[str, float, float], ...]
) -> tuple[TimedWord, ...]:
    words, first = [], 0
    for text, count in zip(texts, counts, strict=True):
        words.append(TimedWord(text, phones[first][1], phones[first + count - 1][2]))
        first += count
    return tuple(words)


def _respelt(text: str) -> str:
    return " ".join(RESPELT.get(word, word) for word in text.split())


def _int16(sound_N: np.ndarray) -> np.ndarray:
    return (np.clip(sound_N, -1, 1) * 32767).astype(np.int16)
