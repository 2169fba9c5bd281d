"""Makes another speaker of an utterance: formants, pitch and breath change apart from each other.

Thirty voices teach the sound of thirty throats. Warping the envelope of the spectrum moves the
formants as a longer or shorter vocal tract would; playing faster or slower moves the pitch; some of
the phases at random make breath of voice.

N samples, S spans, X bins of a spectrum.
"""

from dataclasses import replace

import numpy as np

from nightscribe.training.windows import Utterance, played_at

FFT, HOP = 1024, 256
# Resolves formants but no harmonics of voices up to about 400 Hz.
ENVELOPE_QUEFRENCIES = 56
MAX_GAIN_NEPER = 3.0
MAX_PITCH, MAX_FORMANTS = 0.2, 0.17  # of the logarithm
BREATH_RATE, MAX_BREATH = 0.15, 0.7


def another_speaker(utterance: Utterance, rng: np.random.Generator) -> Utterance:
    """The utterance as someone else might say it; equal generators make equal speakers."""
    pitch, formants = np.exp(rng.uniform(-1, 1, 2) * (MAX_PITCH, MAX_FORMANTS))
    breath = rng.uniform(0, MAX_BREATH) if rng.random() < BREATH_RATE else 0.0
    warped_N = revoiced(utterance.samples_N, float(formants / pitch), breath, rng)
    return played_at(replace(utterance, samples_N=warped_N), float(pitch))


def revoiced(
    samples_N: np.ndarray, formants: float, breath: float, rng: np.random.Generator
) -> np.ndarray:
    """The same pitch and pace with formants moved by a factor and breath as a share."""
    spectrum_SX = _spectra(samples_N)
    envelope_SX = _envelope(spectrum_SX)
    gain_SX = (_stretched(envelope_SX, formants) - envelope_SX).clip(-np.inf, MAX_GAIN_NEPER)
    spectrum_SX = spectrum_SX * np.exp(gain_SX)
    if breath:
        turns_SX = np.exp(2j * np.pi * rng.random(spectrum_SX.shape, np.float32))
        spectrum_SX = (1 - breath) * spectrum_SX + breath * np.abs(spectrum_SX) * turns_SX
    return _joined(spectrum_SX, len(samples_N))


def _window() -> np.ndarray:
    """Squared and shifted by quarters, it adds up to a constant."""
    return np.sqrt(2 / 3) * np.hanning(FFT + 1)[:-1].astype(np.float32)


def _spectra(samples_N: np.ndarray) -> np.ndarray:
    num_spans = -(-len(samples_N) // HOP) + FFT // HOP - 1
    padded_N = np.zeros((num_spans - 1) * HOP + FFT, np.float32)
    padded_N[FFT - HOP : FFT - HOP + len(samples_N)] = samples_N
    spans_SN = np.lib.stride_tricks.sliding_window_view(padded_N, FFT)[::HOP]
    return np.fft.rfft(spans_SN * _window())


def _envelope(spectrum_SX: np.ndarray) -> np.ndarray:
    """The logarithm of the magnitudes, smoothed by its cepstrum."""
    cepstrum = np.fft.irfft(np.log(np.abs(spectrum_SX) + 1e-5))
    lifter = np.zeros(FFT)
    lifter[: ENVELOPE_QUEFRENCIES + 1] = np.hanning(2 * ENVELOPE_QUEFRENCIES + 1)[
        ENVELOPE_QUEFRENCIES:
    ]
    lifter[1 - FFT // 2 :] = lifter[FFT // 2 - 1 : 0 : -1]
    return np.fft.rfft(cepstrum * lifter).real


def _stretched(envelope_SX: np.ndarray, formants: float) -> np.ndarray:
    places_X = (np.arange(envelope_SX.shape[1]) / formants).clip(0, envelope_SX.shape[1] - 1)
    lower_X = places_X.astype(np.int64)
    upper_X = np.minimum(lower_X + 1, envelope_SX.shape[1] - 1)
    share_X = places_X - lower_X
    return envelope_SX[:, lower_X] * (1 - share_X) + envelope_SX[:, upper_X] * share_X


def _joined(spectrum_SX: np.ndarray, num_samples: int) -> np.ndarray:
    spans_SN = np.fft.irfft(spectrum_SX, FFT) * _window()
    joined_N = np.zeros((len(spans_SN) - 1) * HOP + FFT, np.float32)
    for index, span_N in enumerate(spans_SN):
        joined_N[index * HOP : index * HOP + FFT] += span_N
    return joined_N[FFT - HOP : FFT - HOP + num_samples]
