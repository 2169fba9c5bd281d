"""Samples of the wire to int16 at the rate of the model."""

# N samples

import numpy as np

FULL_SCALE = 32768.0


def int16_of(samples_N: np.ndarray) -> np.ndarray:
    """Floats from -1 to 1 as int16: clipped, and silence where they are not finite."""
    scaled_N = np.nan_to_num(samples_N, nan=0.0, posinf=0.0, neginf=0.0) * FULL_SCALE
    return np.rint(scaled_N).clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


class Resampler:
    """From another sample rate to that of the model, block by block."""

    def __init__(self, rate_hz: int, target_hz: int) -> None:
        self._is_needed = rate_hz != target_hz
        if self._is_needed:
            import soxr

            self._stream = soxr.ResampleStream(rate_hz, target_hz, 1, dtype="int16")

    def resampled(self, samples_N: np.ndarray, *, is_last: bool = False) -> np.ndarray:
        """The samples that are known by now; after the last ones, all of them."""
        if not self._is_needed:
            return samples_N
        return self._stream.resample_chunk(samples_N, last=is_last)


def from_mulaw(codes_N: np.ndarray) -> np.ndarray:
    """G.711 mu-law bytes as int16."""
    inverted_N = ~codes_N
    exponents_N, mantissas_N = (inverted_N >> 4) & 7, (inverted_N & 15).astype(np.int32)
    magnitudes_N = ((2 * mantissas_N + 33) << exponents_N) - 33 << 2
    return np.where(inverted_N & 128, -magnitudes_N, magnitudes_N).astype(np.int16)


def from_alaw(codes_N: np.ndarray) -> np.ndarray:
    """G.711 A-law bytes as int16."""
    flipped_N = codes_N ^ 0x55
    exponents_N, mantissas_N = (flipped_N >> 4) & 7, (flipped_N & 15).astype(np.int32)
    small_N = (mantissas_N << 4) + 8
    large_N = small_N + 256 << np.maximum(exponents_N.astype(np.int32) - 1, 0)
    magnitudes_N = np.where(exponents_N == 0, small_N, large_N)
    return np.where(flipped_N & 128, magnitudes_N, -magnitudes_N).astype(np.int16)
