import numpy as np
import pytest

from nightscribe.training.augmentation import (
    AugmentationConfig,
    at_level,
    augmented,
    beeps,
    chords,
    coloured,
    hum,
    knocks,
    through_channel,
)
from tests.training.models import RATE_HZ, beep

QUIET = AugmentationConfig(
    equalise_rate=0, band_limit_rate=0, reverberate_rate=0, noise_rate=0, min_level_db=-20
)


def level_db(samples_N):
    return 10 * np.log10(np.mean(np.square(samples_N)))


def test_with_all_rates_at_zero_only_the_level_changes():
    sound_N = beep(440, 1.0)
    heard_N = augmented(sound_N, RATE_HZ, np.random.default_rng(0), QUIET)
    assert -20 <= level_db(heard_N) <= -15
    np.testing.assert_allclose(heard_N / heard_N.std(), sound_N / sound_N.std(), atol=1e-3)


def test_a_channel_is_causal():
    click_N = np.zeros(RATE_HZ, dtype=np.float32)
    click_N[12000] = 1
    config = AugmentationConfig(equalise_rate=0, band_limit_rate=0, reverberate_rate=1)
    heard_N = through_channel(click_N, RATE_HZ, np.random.default_rng(3), config)
    assert np.abs(heard_N[:11990]).max() < 1e-4
    assert np.abs(heard_N).argmax() == 12000


def test_the_echo_of_the_end_does_not_wrap_around_to_the_start():
    click_N = np.zeros(RATE_HZ, dtype=np.float32)
    click_N[-1] = 1
    config = AugmentationConfig(equalise_rate=0, band_limit_rate=0, reverberate_rate=1)
    heard_N = through_channel(click_N, RATE_HZ, np.random.default_rng(3), config)
    assert np.abs(heard_N[:12000]).max() < 1e-4


def test_noise_has_the_requested_signal_to_noise_ratio():
    config = AugmentationConfig(
        equalise_rate=0,
        band_limit_rate=0,
        reverberate_rate=0,
        noise_rate=1,
        min_snr_db=10,
        max_snr_db=10,
        min_level_db=-30,
        max_level_db=-30,
    )
    heard_N = augmented(beep(440, 2.0), RATE_HZ, np.random.default_rng(1), config)
    assert level_db(heard_N) == pytest.approx(-30 + 10 * np.log10(1.1), abs=0.3)


def test_silence_stays_silence_at_any_level():
    assert not at_level(np.zeros(100, dtype=np.float32), -10).any()


@pytest.mark.parametrize("noise", [beeps, chords, coloured, hum, knocks])
def test_noises_are_of_unit_level(noise):
    sound_N = noise(3 * RATE_HZ, RATE_HZ, np.random.default_rng(2))
    assert len(sound_N) == 3 * RATE_HZ
    assert np.sqrt(np.mean(np.square(sound_N))) == pytest.approx(1, rel=1e-3)


def test_reversed_ranges_are_refused():
    with pytest.raises(ValueError, match="min_snr_db"):
        AugmentationConfig(min_snr_db=50, max_snr_db=40)
