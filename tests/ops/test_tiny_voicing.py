"""Other speakers made of one: formants and pitch move apart, words keep to their sound."""

import numpy as np
import pytest

from nightscribe.training.targets import TimedTokens
from nightscribe.training.windows import Utterance
from ops.tiny.corpus import RATE_HZ
from ops.tiny.voicing import another_speaker, revoiced


def buzz(pitch_hz: float, formant_hz: float, num_samples: int = RATE_HZ) -> np.ndarray:
    """Harmonics of a pitch under one formant."""
    seconds_N = np.arange(num_samples) / RATE_HZ
    harmonics = np.arange(pitch_hz, 8000, pitch_hz)
    gains = np.exp(-(((harmonics - formant_hz) / 250) ** 2)) + 1e-3
    waves = (g * np.sin(2 * np.pi * h * seconds_N) for g, h in zip(gains, harmonics, strict=True))
    return (0.1 * sum(waves)).astype(np.float32)


def spectrum(samples_N: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(samples_N[:RATE_HZ] * np.hanning(len(samples_N[:RATE_HZ]))))


def test_no_change_gives_the_same_sound():
    samples_N = buzz(120, 1500)
    same_N = revoiced(samples_N, 1.0, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(same_N, samples_N, atol=1e-5)


@pytest.mark.parametrize("formants", [0.85, 1.18])
def test_formants_move_by_their_factor_and_the_pitch_stays(formants):
    moved_X = spectrum(revoiced(buzz(100, 1500), formants, 0.0, np.random.default_rng(0)))
    loudest_hz = int(moved_X.argmax())
    assert loudest_hz == pytest.approx(1500 * formants, abs=110)
    assert loudest_hz % 100 in (0, 1, 99)  # still a harmonic
    between_X = moved_X[1450:1950:100]
    assert between_X.max() < 0.02 * moved_X.max()


def test_breath_fills_the_gaps_between_harmonics():
    voiced_X = spectrum(buzz(100, 1500))
    breathy_X = spectrum(revoiced(buzz(100, 1500), 1.0, 0.6, np.random.default_rng(0)))
    assert breathy_X[1540:1560].mean() > 20 * voiced_X[1540:1560].mean()


def test_words_of_another_speaker_lie_where_their_sound_is():
    samples_N = np.zeros(2 * RATE_HZ, np.float32)
    samples_N[RATE_HZ // 2 : RATE_HZ] = buzz(120, 1200, RATE_HZ // 2)
    said = Utterance(samples_N, (TimedTokens((7,), 0.5, 1.0),))
    for seed in range(8):
        other = another_speaker(said, np.random.default_rng(seed))
        loud = np.flatnonzero(np.abs(other.samples_N) > 0.02) / RATE_HZ
        (word,) = other.words
        assert word.start_s == pytest.approx(loud[0], abs=0.03)
        assert word.end_s == pytest.approx(loud[-1], abs=0.03)


def test_equal_generators_make_equal_speakers():
    said = Utterance(buzz(120, 1200), (TimedTokens((7,), 0.1, 0.9),))
    first, second = (another_speaker(said, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.samples_N, second.samples_N)
    assert first.words == second.words
