"""Voices without sound: vectors around the centre of each speaker."""

import numpy as np

from nightscribe.records import Span, Voice

NUM_DIMS = 192


def centres(num_speakers, seed=0):
    rows = np.random.default_rng(seed).standard_normal((num_speakers, NUM_DIMS))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def voice(start_s, end_s, vector, clean_s=None):
    unit = (vector / np.linalg.norm(vector)).astype(np.float16)
    clean_s = end_s - start_s if clean_s is None else clean_s
    return Voice((Span(start_s, end_s),), clean_s, unit.tobytes())


def conversation(order, num_speakers, seed=0, noise=0.6):
    """A voice of two seconds every two and a half, by the speakers in `order`."""
    draws, rows = np.random.default_rng(seed + 1), centres(num_speakers, seed)
    return [
        voice(
            2.5 * place,
            2.5 * place + 2.0,
            rows[speaker] + noise * draws.standard_normal(NUM_DIMS) / np.sqrt(NUM_DIMS),
        )
        for place, speaker in enumerate(order)
    ]
