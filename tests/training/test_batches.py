import numpy as np

from nightscribe.training.batches import CorruptionConfig, corrupted

SILENT = (3, 0)
WORDS = np.arange(10, 50)


def spoil(inputs_SP, word_rate, window_rate=1.0):
    config = CorruptionConfig(word_rate=word_rate, window_rate=window_rate)
    return corrupted(inputs_SP, SILENT, WORDS, np.random.default_rng(0), config)


def test_padding_and_the_start_id_are_never_corrupted():
    inputs_SP = np.full((20, 50), 3)
    inputs_SP[:, 0], inputs_SP[:, 5] = 99, 0
    assert (spoil(inputs_SP, 1.0) == inputs_SP).all()


def test_about_the_configured_share_of_words_is_replaced():
    inputs_SP = np.full((100, 100), 5)
    share = np.mean(spoil(inputs_SP, 0.3)[:, 1:] != 5)
    assert 0.28 < share < 0.32


def test_windows_are_left_alone_at_the_configured_rate():
    inputs_SP = np.full((400, 40), 5)
    untouched = (spoil(inputs_SP, 0.9, window_rate=0.5) == inputs_SP).all(axis=1)
    assert 0.4 < untouched.mean() < 0.6
