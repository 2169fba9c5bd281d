import numpy as np

from nightscribe.training.targets import TimedTokens, speech_classes

WORDS = [TimedTokens((5,), 1.0, 1.5), TimedTokens((6,), 4.0, 4.2)]


def answers(*heard_s):
    return speech_classes(WORDS, np.array(heard_s), num_classes=6).tolist()


def test_no_speech_within_the_horizon_is_class_0():
    assert answers(1.65) == [[0, 0, 0, 4]]  # the next word is 2.35 s away
    assert answers(5.0) == [[0, 0, 0, 0]]


def test_within_a_word_speech_has_started():
    assert answers(1.2) == [[1, 1, 1, 1]]


def test_the_other_classes_divide_the_horizon():
    assert answers(0.75) == [[3, 2, 1, 1]]  # a quarter of a second away


def test_overlapping_speech_ends_with_its_last_word():
    words = [TimedTokens((5,), 1.0, 3.0), TimedTokens((6,), 1.2, 1.4)]
    assert speech_classes(words, np.array([2.0]), num_classes=6).tolist() == [[1, 1, 1, 1]]
