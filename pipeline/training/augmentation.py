"""Augments clean speech with room echo, band limits and noise; words keep their times.

Everything is a function of a waveform and a random generator.

N samples, X bins of a spectrum.
"""

from dataclasses import dataclass

import numpy as np

from nightscribe.options import check_options, option

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
    """The same speech through a random channel, at a random level, with random noise."""
    augmented_N = through_channel(samples_N, sample_rate_hz, rng, config)
    level_db = rng.uniform(config.min_level_db, config.max_level_db)
    augmented_N = at_level(augmented_N, level_db)
    if rng.random() < config.noise_rate:
        snr_db = rng.uniform(config.min_snr_db, config.max_snr_db)
        noise_N = random_noise(len(augmented_N), sample_rate_hz, rng)
        augmented_N = augmented_N + at_level(noise_N, level_db - snr_db)
    return augmented_N.clip(-FULL_SCALE_PEAK, FULL_SCALE_PEAK).astype(np.float32)


def at_level(samples_N: np.ndarray, level_db: float) -> np.ndarray:
    """Scale to this root mean square; silence stays silence."""
    rms = float(np.sqrt(np.mean(np.square(samples_N, dtype=np.float64))))
    return samples_N if rms < SILENCE else samples_N * np.float32(10 ** (level_db / 20) / rms)


def through_channel(
    samples_N: np.ndarray,
    sample_rate_hz: int,
    rng: np.random.Generator,
    config: AugmentationConfig,
) -> np.ndarray:
    """Equaliser, band limit and reverberation in one multiplication of spectra."""
    padded = (
        len(samples_N) + sample_rate_hz // 2
    )  # room for the reverberation tail, which must not wrap around
    frequencies_X = np.fft.rfftfreq(padded, 1 / sample_rate_hz)
    response_X = np.ones(len(frequencies_X), dtype=np.complex128)
    if rng.random() < config.equalise_rate:
        response_X *= _equaliser(frequencies_X, rng)
    if rng.random() < config.band_limit_rate:
        response_X *= _band(frequencies_X, rng)
    if rng.random() < config.reverberate_rate:
        response_X *= np.fft.rfft(_room(sample_rate_hz, rng), padded)
    spectrum_X = np.fft.rfft(samples_N, padded) * response_X
    return np.fft.irfft(spectrum_X, padded)[: len(samples_N)].astype(np.float32)


def _equaliser(frequencies_X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random gains at a few frequencies, interpolated in between."""
    num_knots = rng.integers(3, 7)
    knots = np.sort(rng.uniform(np.log(60), np.log(11500), num_knots))
    gains_db = np.interp(np.log(frequencies_X + 1), knots, rng.normal(0, 5, num_knots))
    return 10 ** (gains_db / 20)


def _band(frequencies_X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The band of a telephone, a wide-band codec or anything between."""
    low_hz, high_hz = (
        (rng.uniform(150, 350), rng.uniform(3000, 3700)),
        (rng.uniform(20, 120), rng.uniform(6000, 7900)),
        (rng.uniform(20, 200), rng.uniform(3500, 11000)),
    )[rng.choice(3, p=(0.3, 0.45, 0.25))]
    above_X = np.maximum(frequencies_X, 1.0)
    return 1 / np.sqrt((1 + (above_X / high_hz) ** 24) * (1 + (low_hz / above_X) ** 6))


def _room(sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """A room impulse response: an impulse, then noise that decays within 50 to 450 ms."""
    tail = int(rng.uniform(0.05, 0.45) * sample_rate_hz)
    gap = int(rng.uniform(0, 0.008) * sample_rate_hz)
    # The level falls by 60 dB over the tail.
    echo = rng.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
    echo *= 10 ** (rng.uniform(-18, -1) / 20) / np.linalg.norm(echo)
    return np.concatenate(([1.0], np.zeros(gap), echo))


def random_noise(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of one random kind."""
    kinds = (coloured, coloured, beeps, hum, knocks, chords)
    return kinds[rng.integers(len(kinds))](num_samples, sample_rate_hz, rng).astype(np.float32)


def coloured(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Noise between white and brown."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    bins = np.maximum(np.arange(len(spectrum)), 1)
    return _unit_level(np.fft.irfft(spectrum * bins ** -rng.uniform(0, 1.1), num_samples))


def beeps(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """One or two tones, switched on and off periodically, as in ringing and dialling."""
    seconds_N = np.arange(num_samples) / sample_rate_hz
    on_s = rng.uniform(0.05, 1.2)
    period_s = on_s + rng.uniform(0.05, 3)
    is_on_N = (seconds_N + rng.uniform(0, period_s)) % period_s < on_s
    tones_hz = rng.uniform(250, 2500, rng.integers(1, 3))
    return _unit_level(sum(np.sin(2 * np.pi * hz * seconds_N) for hz in tones_hz) * is_on_N)


def hum(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Mains hum with harmonics."""
    phase_N = 2 * np.pi * rng.choice((50, 60)) * np.arange(num_samples) / sample_rate_hz
    harmonics = (rng.uniform(0.2, 1) / k * np.sin(k * phase_N) for k in range(1, 8))
    return _unit_level(sum(harmonics))


def knocks(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Short bursts: doors, keys, a microphone that is moved."""
    sound_N = np.zeros(num_samples)
    for start in rng.integers(0, num_samples, rng.integers(3, 30)):
        length = min(int(rng.uniform(0.004, 0.17) * sample_rate_hz), num_samples - start)
        burst = rng.standard_normal(length) * np.exp(-4 * np.arange(length) / length)
        sound_N[start : start + length] += burst
    return _unit_level(sound_N)


def chords(num_samples: int, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked notes on a regular beat, like music on hold."""
    sound_N = np.zeros(num_samples)
    root_hz = rng.uniform(80, 400)
    beat = int(rng.uniform(0.15, 1.0) * sample_rate_hz)
    for start in range(0, num_samples, beat):
        seconds = np.arange(min(2 * beat, num_samples - start)) / sample_rate_hz
        for semitones in rng.integers(-5, 17, rng.integers(1, 4)):
            note_hz = root_hz * 2 ** (semitones / 12)
            sound_N[start : start + len(seconds)] += _note(note_hz, seconds, rng)
    return _unit_level(sound_N)


def _note(note_hz: float, seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    fading = np.exp(-seconds * rng.uniform(0.5, 6))
    overtones = (np.sin(2 * np.pi * note_hz * k * seconds) / k for k in range(1, 5))
    return fading * sum(overtones)


def _unit_level(sound_N: np.ndarray) -> np.ndarray:
    return sound_N / max(float(np.sqrt(np.mean(np.square(sound_N)))), 1e-9)
