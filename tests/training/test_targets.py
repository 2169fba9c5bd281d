from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.training.targets import (
    AlignmentError,
    TextLayout,
    TimedTokens,
    align,
    delayed_text,
    prefixed,
    text_inputs,
)
from tests.training.models import CONFIG, FIRST_WORD_ID, small_model, spoken

LAYOUT = TextLayout(
    frame_rate_hz=12.5, delay_steps=6, padding_id=3, end_of_padding_id=0, start_id=8000
)


def test_a_word_is_announced_a_delay_after_its_start_and_then_written():
    tokens = delayed_text([TimedTokens((7, 8), 0.8, 1.2)], 30, LAYOUT)
    announced = 10 + 6 - 1
    assert tokens[announced : announced + 4].tolist() == [0, 7, 8, 3]
    assert np.count_nonzero(tokens != 3) == 3


def test_the_time_of_a_word_is_read_back_from_the_position_of_its_end_of_padding():
    start_s = 1.36
    tokens = delayed_text([TimedTokens((7,), start_s, 1.5)], 40, LAYOUT)
    position = tokens.tolist().index(0)
    assert (position + 1 - LAYOUT.delay_steps) / 12.5 == pytest.approx(start_s)


@given(st.floats(0, 8))
def test_a_word_is_written_at_the_frame_nearest_to_its_beginning(start_s):
    tokens = delayed_text([TimedTokens((7,), start_s, start_s)], 120, LAYOUT)
    read_back_s = (tokens.tolist().index(0) + 1 - LAYOUT.delay_steps) / 12.5
    assert abs(read_back_s - start_s) <= 0.04 + 1e-9


def test_words_that_are_due_too_early_follow_one_another():
    words = [TimedTokens((7, 8), 0.8, 0.9), TimedTokens((9,), 0.88, 1.0)]
    tokens = delayed_text(words, 30, LAYOUT)
    assert tokens[15:20].tolist() == [0, 7, 8, 0, 9]


def test_words_that_do_not_fit_before_the_end_are_left_out_whole():
    words = [TimedTokens((7,), 0.1, 0.3), TimedTokens((8, 9), 0.9, 1.0)]
    tokens = delayed_text(words, 17, LAYOUT)
    assert tokens[tokens != 3].tolist() == [0, 7]


@pytest.mark.parametrize(("num_frames", "written"), [(17, []), (18, [0, 7, 8, 9])])
def test_a_word_that_fills_the_end_exactly_is_written_and_a_longer_one_is_not(num_frames, written):
    tokens = delayed_text([TimedTokens((7, 8, 9), 0.8, 1.2)], num_frames, LAYOUT)
    assert tokens[tokens != 3].tolist() == written


def test_text_inputs_are_the_start_id_and_then_the_targets_shifted_by_one():
    assert text_inputs(np.array([3, 0, 7]), LAYOUT).tolist() == [8000, 3, 0]


def test_forced_tokens_of_a_domain_come_first():
    assert prefixed(np.full(5, 3), (21, 22)).tolist() == [21, 22, 3, 3, 3]


@given(
    st.lists(
        st.tuples(st.floats(0, 8), st.integers(1, 4)),
        max_size=20,
    )
)
def test_words_are_written_whole_and_in_the_order_of_their_starts(spoken):
    words = [
        TimedTokens((10 + index,) * length, start_s, start_s + 0.1)
        for index, (start_s, length) in enumerate(spoken)
    ]
    tokens = delayed_text(words, 120, LAYOUT)
    written = [token for token in tokens.tolist() if token not in (0, 3)]
    in_order = sorted(words, key=lambda word: word.start_s)
    expected = [token for word in in_order for token in word.tokens]
    assert written == expected[: len(written)]
    assert tokens.tolist().count(0) == len(set(written))


def test_an_empty_word_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        TimedTokens((), 0, 1)


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
