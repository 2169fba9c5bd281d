from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from nightscribe.training.alignment import AlignmentError, align
from nightscribe.training.targets import TextLayout, TimedTokens, delayed_text
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


@pytest.mark.parametrize("prefix_s", [0.0, 1.0])
def test_the_time_of_a_word_is_when_it_is_spoken_and_not_when_it_is_written(prefix_s):
    """A model that says its text as the layout asks is understood, whatever it heard before."""
    config = replace(CONFIG, silence_prefix_s=prefix_s)
    prefix_frames = config.prefix_frames
    words = [TimedTokens((7,), 0.8, 1.0), TimedTokens((8, 9), 1.6, 2.0)]
    moved_s = prefix_frames / config.mimi.frame_rate_hz
    moved = [replace(w, start_s=w.start_s + moved_s, end_s=w.end_s + moved_s) for w in words]
    said = delayed_text(moved, 60 + prefix_frames, TextLayout.of(config))[1:]
    model = Mock(config=config)
    model.transcribe.return_value.tokens_SF = torch.from_numpy(said)[None]
    aligned = align(model, np.zeros(4 * 24000, np.int16), [(7,), (8, 9)])
    assert [word.start_s for word in aligned] == pytest.approx([0.8, 1.6])


def test_a_text_that_does_not_fit_the_audio_is_refused():
    model = small_model()
    samples_N = np.zeros(CONFIG.mimi.frame_samples * 2, np.int16)
    with pytest.raises(AlignmentError, match="tokens matched"):
        align(model, samples_N, [(FIRST_WORD_ID,)] * 40)
