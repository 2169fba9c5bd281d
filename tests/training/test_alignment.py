import numpy as np
import pytest

from pipeline.training.alignment import UnheardText, align
from tests.training.models import CONFIG, FIRST_WORD_ID, small_model, spoken


def test_every_word_of_the_text_gets_a_time_in_order():
    """Whatever the model would say by itself, it is held to the text."""
    model = small_model()
    samples_N = (spoken(["low"] * 12).samples_N * 20000).astype(np.int16)
    words = [(FIRST_WORD_ID,), (FIRST_WORD_ID + 1, 20), (21,)]
    model.language_model.text_head.weight.data[[0, 3]] = 0  # an untaught model would stay silent
    aligned = align(model, samples_N, words)
    assert [word.tokens for word in aligned] == words
    starts = [word.start_s for word in aligned]
    assert starts == sorted(starts)
    assert all(0 <= w.start_s <= w.end_s <= len(samples_N) / 24000 for w in aligned)


def test_a_text_that_the_sound_cannot_hold_is_refused():
    model = small_model()
    samples_N = np.zeros(CONFIG.mimi.frame_samples * 2, np.int16)
    with pytest.raises(UnheardText, match="tokens were heard"):
        align(model, samples_N, [(FIRST_WORD_ID,)] * 40)
