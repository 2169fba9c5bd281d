import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.speech_activity import SpeechDetector, speech_spans
from nightscribe.guards.stalls import total_s
from tests.guards.sounds import RATE_HZ, babble, noise, silence

CONFIG = GuardsConfig()


def spans_of(*sounds):
    return speech_spans(np.concatenate(sounds), RATE_HZ, CONFIG)


@pytest.mark.parametrize("noise_dbfs", [-90, -60, -45])
def test_speech_is_found_where_it_is_whatever_the_noise(noise_dbfs):
    audio = np.concatenate([silence(3), babble(5), silence(4), babble(2), silence(3)])
    noisy = (audio + noise(len(audio) / RATE_HZ, noise_dbfs)).clip(-32768, 32767)
    first, second = speech_spans(noisy.astype(np.int16), RATE_HZ, CONFIG)
    assert (first.start_s, first.end_s) == pytest.approx((3, 7.8), abs=0.1)
    assert (second.start_s, second.end_s) == pytest.approx((12, 13.8), abs=0.1)


@pytest.mark.parametrize("sound", [silence(5), noise(5, -60), noise(5, -40), silence(0)])
def test_silence_and_steady_noise_are_no_speech(sound):
    assert spans_of(sound) == ()


def test_an_offset_is_no_sound():
    assert spans_of(silence(5) + np.int16(9_000)) == ()


def test_a_click_is_no_speech_and_a_short_pause_does_not_end_it():
    click = babble(0.04)
    assert spans_of(silence(2), click, silence(2)) == ()
    (span,) = spans_of(silence(2), babble(0.8), silence(0.1), babble(0.8), silence(2))
    assert span.duration_s == pytest.approx(1.7, abs=0.1)


def test_speech_without_any_pause_is_still_found():
    syllables = [noise(0.12, -12 - 14 * (index % 2), seed=index) for index in range(42)]
    assert total_s(spans_of(np.concatenate(syllables))) == pytest.approx(5, abs=0.1)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3 * RATE_HZ), max_size=6))
def test_blocks_of_any_size_give_the_same_spans(cuts):
    audio = np.concatenate([silence(1), babble(3), silence(1), babble(1)])
    detector = SpeechDetector(RATE_HZ, CONFIG)
    for block in np.split(audio, sorted(cuts)):
        detector.add(block)
    assert detector.spans() == speech_spans(audio, RATE_HZ, CONFIG)


def test_an_hour_of_levels_takes_less_than_a_megabyte():
    minute = babble(60)
    tracemalloc.start()
    detector = SpeechDetector(RATE_HZ, CONFIG)
    for _ in range(60):
        detector.add(minute)
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 1_000_000
    assert total_s(detector.spans()) == pytest.approx(3600, rel=0.25)


def test_loud_noise_and_held_chords_are_no_speech_unless_asked_for():
    time_s = np.arange(10 * RATE_HZ) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (220, 277.2, 329.6))
    swell = 0.8 + 0.2 * np.sin(2 * np.pi * 0.7 * time_s)
    music = (chord * swell * 6000).astype(np.int16)
    for sound in (music, noise(10, -18)):
        assert spans_of(sound) == ()
        assert total_s(speech_spans(sound, RATE_HZ, GuardsConfig(min_modulation_db=0))) > 9


def test_speech_over_quiet_music_is_speech():
    time_s = np.arange(10 * RATE_HZ) / RATE_HZ
    chord = (np.sin(2 * np.pi * 220 * time_s) * 900).astype(np.int16)
    assert total_s(spans_of(babble(10) + chord)) > 7
