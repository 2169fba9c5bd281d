"""Rooms, lines and noises laid over clean speech, so that the model hears more than it was given.

Everything is a function of a waveform and a random generator; nothing changes when a word is said.

N samples, X bins of a spectrum.
"""

from dataclasses import dataclass

import numpy as np

from nightscribe.options import check_options, option
from nightscribe.training.noises import draw_noise

SILENCE = 1e-5  # root mean square below which a waveform has no level
FULL_SCALE_PEAK = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """How the sound of training windows is varied."""

    equalise_rate: float = option(
        0.7, "share of windows with a random equaliser", minimum=0, maximum=1
    )
    band_limit_rate: float = option(
        0.6,
        "share of windows limited to the band of a telephone or a narrow codec",
        minimum=0,
        maximum=1,
    )
    reverberate_rate: float = option(
        0.4, "share of windows with reverberation", minimum=0, maximum=1
    )
    noise_rate: float = option(0.75, "share of windows with added noise", minimum=0, maximum=1)
    min_snr_db: float = option(3.0, "lowest signal-to-noise ratio")
    max_snr_db: float = option(40.0, "highest signal-to-noise ratio")
    min_level_db: float = option(-34.0, "lowest level; full scale is 0")
    max_level_db: float = option(-15.0, "highest level; full scale is 0")

    def __post_init__(self) -> None:
        check_options(self, "augmentation")
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db {self.min_snr_db} is above max_snr_db {self.max_snr_db}")
        if self.min_level_db > self.max_level_db:
            raise ValueError(
                f"min_level_db {self.min_level_db} is above max_level_db {self.max_level_db}"
            )


def augmented(
    samples_N: np.ndarray,
    sample_rate_hz: int,
    rng: np.random.Generator,
    config: AugmentationConfig,
) -> np.ndarray:
    """The same speech through a drawn channel, at a drawn level, over a drawn noise."""
    heard_N = through_channel(samples_N, sample_rate_hz, rng, config)
    level_db = rng.uniform(config.min_level_db, config.max_level_db)
    heard_N = at_level(heard_N, level_db)
    if rng.random() < config.noise_rate:
        snr_db = rng.uniform(config.min_snr_db, config.max_snr_db)
        noise_N = draw_noise(len(heard_N), sample_rate_hz, rng)
        heard_N = heard_N + at_level(noise_N, level_db - snr_db)
    return heard_N.clip(-FULL_SCALE_PEAK, FULL_SCALE_PEAK).astype(np.float32)


def at_level(samples_N: np.ndarray, level_db: float) -> np.ndarray:
    """The same sound with this root mean square; silence stays silence."""
    rms = float(np.sqrt(np.mean(np.square(samples_N, dtype=np.float64))))
    return samples_N if rms < SILENCE else samples_N * np.float32(10 ** (level_db / 20) / rms)


def through_channel(
    samples_N: np.ndarray,
    sample_rate_hz: int,
    rng: np.random.Generator,
    config: AugmentationConfig,
) -> np.ndarray:
    """Tone, band and room in one multiplication of spectra."""
    padded = len(samples_N) + sample_rate_hz // 2  # the tail of a room must not come round
    frequencies_X = np.fft.rfftfreq(padded, 1 / sample_rate_hz)
    response_X = np.ones(len(frequencies_X), dtype=np.complex128)
    if rng.random() < config.equalise_rate:
        response_X *= _tone(frequencies_X, rng)
    if rng.random() < config.band_limit_rate:
        response_X *= _band(frequencies_X, rng)
    if rng.random() < config.reverberate_rate:
        response_X *= np.fft.rfft(_room(sample_rate_hz, rng), padded)
    spectrum_X = np.fft.rfft(samples_N, padded) * response_X
    return np.fft.irfft(spectrum_X, padded)[: len(samples_N)].astype(np.float32)


def _tone(frequencies_X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some decibels up or down at a few frequencies, even in between."""
    num_knots = rng.integers(3, 7)
    knots = np.sort(rng.uniform(np.log(60), np.log(11500), num_knots))
    gains_db = np.interp(np.log(frequencies_X + 1), knots, rng.normal(0, 5, num_knots))
    return 10 ** (gains_db / 20)


def _band(frequencies_X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A telephone, a wide-band codec or anything between."""
    low_hz, high_hz = (
        (rng.uniform(150, 350), rng.uniform(3000, 3700)),
        (rng.uniform(20, 120), rng.uniform(6000, 7900)),
        (rng.uniform(20, 200), rng.uniform(3500, 11000)),
    )[rng.choice(3, p=(0.3, 0.45, 0.25))]
    above_X = np.maximum(frequencies_X, 1.0)
    return 1 / np.sqrt((1 + (above_X / high_hz) ** 24) * (1 + (low_hz / above_X) ** 6))


def _room(sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """An impulse, and after it noise that dies away within 50 to 450 ms."""
    tail = int(rng.uniform(0.05, 0.45) * sample_rate_hz)
    gap = int(rng.uniform(0, 0.008) * sample_rate_hz)
    # A level that falls by 60 dB over the tail.
    echo = rng.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
    echo *= 10 ** (rng.uniform(-18, -1) / 20) / np.linalg.norm(echo)
    return np.concatenate(([1.0], np.zeros(gap), echo))
