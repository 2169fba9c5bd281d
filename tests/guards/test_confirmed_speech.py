"""Loud music is not transcribed again; the network and the sounds are real."""

from pathlib import Path

import numpy as np
import pytest

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.confirmed_speech import confirmed_speech
from nightscribe.guards.speech_activity import speech_spans
from nightscribe.guards.stall_retry import retry_stalls
from nightscribe.guards.stalls import stalls, total_s
from nightscribe.jobs.file import read_audio
from nightscribe.records import Span, Word
from nightscribe.speakers.activity_network import load_hearing
from nightscribe.training.augmentation import chords
from tests.guards.retries import run_retries

RATE_HZ = 24_000
CONFIG = GuardsConfig()


@pytest.fixture(scope="module")
def talk_N():
    return read_audio(Path("samples/ten-minutes.opus"))[: 20 * RATE_HZ]


@pytest.fixture(scope="module")
def music_N():
    """Loud plucked notes: their level varies like that of speech."""
    sound_N = chords(20 * RATE_HZ, RATE_HZ, np.random.default_rng(3))
    return np.clip(sound_N * 4000, -32768, 32767).astype(np.int16)


def confirmed(samples_N, speech, words=(), config=CONFIG):
    return confirmed_speech(samples_N, RATE_HZ, words, speech, config, load_hearing(RATE_HZ))


def passes(samples_N, words, speech):
    """How often the model would hear pieces of this sound again."""
    attempts = []
    run_retries(
        retry_stalls(samples_N, RATE_HZ, words, speech, CONFIG),
        lambda attempt: attempts.append(attempt) or [],
    )
    return len(attempts)


def test_loud_music_is_not_transcribed_twice(music_N):
    speech = speech_spans(music_N, RATE_HZ, CONFIG)
    assert total_s(speech) > 10  # the level alone takes it for speech
    assert passes(music_N, [], speech) > 0
    assert confirmed(music_N, speech) == ()
    assert passes(music_N, [], confirmed(music_N, speech)) == 0


def test_speech_without_words_is_still_a_stall(talk_N):
    speech = speech_spans(talk_N, RATE_HZ, CONFIG)
    assert stalls([], speech, CONFIG)
    assert confirmed(talk_N, speech) == speech


def test_only_the_music_before_the_speech_is_taken_out(talk_N, music_N):
    both_N = np.concatenate([music_N, talk_N])
    found = confirmed(both_N, [Span(0.0, 40.0)])
    assert found[0].start_s == pytest.approx(20.0)
    assert total_s(found) == pytest.approx(20.0)


def test_nobody_asks_about_sound_that_has_words(music_N):
    words = [Word("la", start_s, start_s + 0.5, 0.9) for start_s in range(20)]
    asked = []

    def ask(some):
        asked.extend(some)
        return []

    confirmed_speech(music_N, RATE_HZ, words, [Span(0, 20)], CONFIG, ask)
    assert asked == []
