"""Voice activity detection (VAD) by energy: where somebody speaks, from blocks of samples.

Speech is louder than the noise floor, and its level changes within a second. Keeps one level per
20 ms of audio, never the audio: about 700 kB for an hour.
"""

import numpy as np
from numpy.typing import NDArray

from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Span

LEVELS_PER_S = 50
FULL_SCALE = 32768.0
SILENCE_DBFS = -96.0
# The lowest tenth of the levels is taken for the noise floor: most recordings have pauses.
NOISE_QUANTILE = 0.1
# Music cannot be distinguished from a long vowel in less than this.
MIN_STEADY_S = 2
# The difference of these quantiles within a second is the modulation of the level.
MODULATION_QUANTILES = (0.1, 0.9)


class SpeechDetector:
    """Takes blocks of samples in order; `spans` returns where speech was."""

    def __init__(self, sample_rate_hz: int, config: GuardsConfig) -> None:
        self._window = sample_rate_hz // LEVELS_PER_S
        self._window_s = self._window / sample_rate_hz
        self._config = config
        self._rest_N: NDArray[np.int16] = np.zeros(0, np.int16)
        self._levels: list[NDArray[np.float32]] = []

    def add(self, samples_N: NDArray[np.int16]) -> None:
        """Add the next block, of any length."""
        samples_N = np.concatenate([self._rest_N, samples_N])
        num_whole = len(samples_N) // self._window * self._window
        if num_whole:
            self._levels.append(_levels_dbfs(samples_N[:num_whole].reshape(-1, self._window)))
        self._rest_N = samples_N[num_whole:].copy()

    def spans(self) -> tuple[Span, ...]:
        """The spans of speech in all blocks so far."""
        levels = np.concatenate([np.zeros(0, np.float32), *self._levels])
        if not len(levels):
            return ()
        loud = levels > self._threshold_dbfs(levels)
        min_pause, min_speech = (
            max(round(duration_s / self._window_s), 1)
            for duration_s in (self._config.min_pause_s, self._config.min_speech_s)
        )
        is_speech_L = _without_short_runs(~_without_short_runs(~loud, min_pause), min_speech)
        return tuple(
            Span(first * self._window_s, end * self._window_s)
            for first, end in _runs(is_speech_L)
            if not self._is_steady(levels[first:end])
        )

    def _is_steady(self, levels: NDArray[np.float32]) -> bool:
        """Whether the level changes less within a second than syllables do: music or noise."""
        num_seconds = len(levels) // LEVELS_PER_S
        if num_seconds < MIN_STEADY_S:
            return False
        levels_SL = levels[: num_seconds * LEVELS_PER_S].reshape(num_seconds, LEVELS_PER_S)
        low_S, high_S = np.quantile(levels_SL, MODULATION_QUANTILES, axis=1)
        return float(np.median(high_S - low_S)) < self._config.min_modulation_db

    def _threshold_dbfs(self, levels: NDArray[np.float32]) -> float:
        above_noise = float(np.quantile(levels, NOISE_QUANTILE)) + self._config.speech_margin_db
        quietest, loudest = self._config.quietest_speech_dbfs, self._config.loudest_noise_dbfs
        return min(max(above_noise, quietest), loudest)


def speech_spans(
    samples_N: NDArray[np.int16], sample_rate_hz: int, config: GuardsConfig
) -> tuple[Span, ...]:
    """Where somebody speaks in one piece of audio."""
    detector = SpeechDetector(sample_rate_hz, config)
    detector.add(samples_N)
    return detector.spans()


def _levels_dbfs(windows_WN: NDArray[np.int16]) -> NDArray[np.float32]:
    # The mean of each window is removed: a constant offset is not sound.
    power_W = windows_WN.var(axis=1, dtype=np.float32) / FULL_SCALE**2
    return 10 * np.log10(np.maximum(power_W, 10 ** (SILENCE_DBFS / 10))).astype(np.float32)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First index and end of every run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _without_short_runs(flags: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    long_runs = flags.copy()
    for first, end in _runs(flags):
        if end - first < shortest:
            long_runs[first:end] = False
    return long_runs
