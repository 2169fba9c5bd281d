"""Audio for the guards: bursts like syllables, noise and silence; and words to match."""

import numpy as np

from nightscribe.records import Word

RATE_HZ = 8_000


def silence(duration_s):
    return np.zeros(round(duration_s * RATE_HZ), np.int16)


def noise(duration_s, dbfs, seed=0):
    samples = np.random.default_rng(seed).normal(size=round(duration_s * RATE_HZ))
    return np.clip(samples * 32768 * 10 ** (dbfs / 20), -32768, 32767).astype(np.int16)


def babble(duration_s, dbfs=-20.0):
    """Noise in syllables of a fifth of a second, four in five of them voiced."""
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    voiced = (time_s % 1.0) < 0.8
    return (noise(duration_s, dbfs, seed=1) * voiced).astype(np.int16)


def speak(text, start_s=0.0, step_s=0.4):
    return [
        Word(part, start_s + index * step_s, start_s + (index + 1) * step_s, 0.9)
        for index, part in enumerate(text.split())
    ]


def counted(start_s, end_s, step_s=0.5):
    """Different words, one after the other, from one time to another."""
    num_words = round((end_s - start_s) / step_s)
    return speak(" ".join(f"w{index}" for index in range(num_words)), start_s, step_s)
