import numpy as np

from nightscribe.training.delayed_text import TimedTokens
from nightscribe.training.speech_horizons import speech_answers

WORDS = [TimedTokens((5,), 1.0, 1.5), TimedTokens((6,), 4.0, 4.2)]


def answers(*heard_s):
    return speech_answers(WORDS, np.array(heard_s), num_answers=6).tolist()


def test_silence_within_the_horizon_is_answer_0():
    assert answers(1.65) == [[0, 0, 0, 4]]  # the next word is 2.35 s away
    assert answers(5.0) == [[0, 0, 0, 0]]


def test_within_a_word_speech_is_now():
    assert answers(1.2) == [[1, 1, 1, 1]]


def test_the_other_answers_part_the_horizon():
    assert answers(0.75) == [[3, 2, 1, 1]]  # a quarter of a second away


def test_speech_that_overlaps_ends_with_its_last_word():
    words = [TimedTokens((5,), 1.0, 3.0), TimedTokens((6,), 1.2, 1.4)]
    assert speech_answers(words, np.array([2.0]), num_answers=6).tolist() == [[1, 1, 1, 1]]
