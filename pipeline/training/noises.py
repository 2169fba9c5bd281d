"""Sounds without words: hiss, rumble, hum, beeps, chords and knocks, each of unit level or so.

N samples.
"""

import numpy as np


def draw_noise(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch of one kind of noise."""
    kinds = (coloured, coloured, beeps, hum, knocks, chords)
    return kinds[rng.integers(len(kinds))](num_samples, sample_rate_hz, rng).astype(np.float32)


def coloured(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """From white to brown."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    return _of_unit_level(np.fft.irfft(spectrum * bins ** -rng.uniform(0, 1.1), num_samples))


def beeps(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """One or two tones that come and go at an even pace: ringing, dialling, waiting."""
    seconds_N = np.arange(num_samples) / sample_rate_hz
    sounding_s = rng.uniform(0.05, 1.2)
    period_s = sounding_s + rng.uniform(0.05, 3)
    is_on_N = (seconds_N + rng.uniform(0, period_s)) % period_s < sounding_s
    tones_hz = rng.uniform(250, 2500, rng.integers(1, 3))
    return _of_unit_level(sum(np.sin(2 * np.pi * hz * seconds_N) for hz in tones_hz) * is_on_N)


def hum(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """The mains and its harmonics."""
    phase_N = 2 * np.pi * rng.choice((50, 60)) * np.arange(num_samples) / sample_rate_hz
    harmonics = (rng.uniform(0.2, 1) / k * np.sin(k * phase_N) for k in range(1, 8))
    return _of_unit_level(sum(harmonics))


def knocks(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Short bursts here and there: doors, keys, a microphone that is moved."""
    sound_N = np.zeros(num_samples)
    for start in rng.integers(0, num_samples, rng.integers(3, 30)):
        length = min(int(rng.uniform(0.004, 0.17) * sample_rate_hz), num_samples - start)
        burst = rng.standard_normal(length) * np.exp(-4 * np.arange(length) / length)
        sound_N[start : start + length] += burst
    return _of_unit_level(sound_N)


def chords(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked notes on an even beat, as music on hold has them."""
    sound_N = np.zeros(num_samples)
    root_hz = rng.uniform(80, 400)
    beat = int(rng.uniform(0.15, 1.0) * sample_rate_hz)
    for start in range(0, num_samples, beat):
        seconds = np.arange(min(2 * beat, num_samples - start)) / sample_rate_hz
        for semitones in rng.integers(-5, 17, rng.integers(1, 4)):
            note_hz = root_hz * 2 ** (semitones / 12)
            sound_N[start : start + len(seconds)] += _plucked(note_hz, seconds, rng)
    return _of_unit_level(sound_N)


def _plucked(note_hz: float, seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    fading = np.exp(-seconds * rng.uniform(0.5, 6))
    overtones = (np.sin(2 * np.pi * note_hz * k * seconds) / k for k in range(1, 5))
    return fading * sum(overtones)


def _of_unit_level(sound_N: np.ndarray) -> np.ndarray:
    return sound_N / max(float(np.sqrt(np.mean(np.square(sound_N)))), 1e-9)
