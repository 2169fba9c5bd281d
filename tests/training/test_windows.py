import numpy as np
import pytest

from nightscribe.training.augmentation import AugmentationConfig
from nightscribe.training.targets import TimedTokens
from nightscribe.training.trainer import ScheduleConfig
from nightscribe.training.windows import Utterance, WindowConfig, WindowSampler, played_at
from tests.training.models import RATE_HZ, spoken

UTTERANCES = [spoken(["low", "high"]), spoken(["high"]), spoken(["low", "low", "high"])]


def draw(seed, **config):
    sampler = WindowSampler(UTTERANCES, RATE_HZ, WindowConfig(window_s=4.0, **config))
    return sampler.draw(np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(20))
def test_words_are_timed_where_they_sound(seed):
    """Beeps are loud exactly within their words, however utterances are cut, joined and sped up."""
    window = draw(seed)
    loud_N = np.zeros(len(window.samples_N), dtype=bool)
    for word in window.words:
        loud_N[max(int(word.start_s * RATE_HZ), 0) : int(word.end_s * RATE_HZ)] = True
    cut = int(0.3 * RATE_HZ)  # a beep that is cut off at either edge may not be asked for
    heard_N = np.abs(window.samples_N) > 1e-3
    assert np.mean((heard_N & ~loud_N)[cut:-cut]) < 0.005
    inside = [word for word in window.words if word.start_s > 0 and word.end_s < 4.0]
    assert inside
    for word in inside:
        first, end = int(word.start_s * RATE_HZ) + 300, int(word.end_s * RATE_HZ) - 300
        assert np.abs(window.samples_N[first:end]).max() > 0.4


def test_equal_generators_draw_equal_windows():
    first, again = draw(7), draw(7)
    assert (first.samples_N == again.samples_N).all()
    assert first.words == again.words


def test_all_windows_have_one_length():
    assert {len(draw(seed).samples_N) for seed in range(10)} == {4 * RATE_HZ}


def test_some_windows_have_no_speech():
    silent = draw(0, silent_rate=1.0)
    assert silent.words == ()
    assert not silent.samples_N.any()


def test_a_window_has_one_domain():
    calls = Utterance(UTTERANCES[0].samples_N, (TimedTokens((50,), 0.1, 0.2),), "calls")
    sampler = WindowSampler([calls, *UTTERANCES], RATE_HZ, WindowConfig(window_s=8.0))
    for seed in range(30):
        window = sampler.draw(np.random.default_rng(seed))
        assert {word.tokens == (50,) for word in window.words} <= {window.domain == "calls"}


def test_faster_speech_is_shorter_and_its_words_come_earlier():
    utterance = played_at(spoken(["low"]), 1.2)
    assert utterance.words[0].start_s == pytest.approx(0.2)
    assert len(utterance.samples_N) == pytest.approx(0.72 / 1.2 * RATE_HZ, abs=2)


@pytest.mark.parametrize("config", [WindowConfig, AugmentationConfig])
def test_rates_are_shares(config):
    rates = [name for name in config.__slots__ if name.endswith("_rate")]
    assert rates
    for name in rates:
        with pytest.raises(ValueError, match=f"{name} must be from 0 to 1, got 30"):
            config(**{name: 30})


@pytest.mark.parametrize("name", ["num_steps", "evaluate_every_steps", "save_every_steps"])
def test_a_schedule_counts_from_one(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        ScheduleConfig(**{name: 0})
