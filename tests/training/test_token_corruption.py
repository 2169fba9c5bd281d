import numpy as np

from nightscribe.training.token_corruption import CorruptionConfig, corrupted

SILENT = (3, 0)
WORDS = np.arange(10, 50)


def spoil(heard_SP, word_rate, window_rate=1.0):
    config = CorruptionConfig(word_rate=word_rate, window_rate=window_rate)
    return corrupted(heard_SP, SILENT, WORDS, np.random.default_rng(0), config)


def test_padding_and_the_start_id_are_never_spoilt():
    heard_SP = np.full((20, 50), 3)
    heard_SP[:, 0], heard_SP[:, 5] = 99, 0
    assert (spoil(heard_SP, 1.0) == heard_SP).all()


def test_about_the_asked_share_of_words_is_replaced():
    heard_SP = np.full((100, 100), 5)
    share = np.mean(spoil(heard_SP, 0.3)[:, 1:] != 5)
    assert 0.28 < share < 0.32


def test_windows_are_left_alone_at_the_asked_rate():
    heard_SP = np.full((400, 40), 5)
    untouched = (spoil(heard_SP, 0.9, window_rate=0.5) == heard_SP).all(axis=1)
    assert 0.4 < untouched.mean() < 0.6
