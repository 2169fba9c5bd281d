"""Words read step by step are those that are read at the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.model.word_stream import WordBegin, WordEnd, WordStream
from tests.model.test_word_timestamps import END, GOLDEN, PAD, Pieces, Precision, reader

E_ACUTE = [100 + byte for byte in "é".encode()]
TOKENS = st.sampled_from([PAD, PAD, END, 4, 5, 6, 7, *E_ACUTE, 100 + 0xE2, 100 + 0x82])


def events_of(tokens, probabilities, spoken, first_step=0):
    stream = WordStream(spoken, first_step)
    steps = [list(stream.read(*one)) for one in zip(tokens, probabilities, strict=True)]
    return [*steps, list(stream.end())]


def words_of(steps):
    words = []
    for event in (event for step in steps for event in step):
        if isinstance(event, WordBegin):
            words.append([event.text, event.start_s, None, event.confidence])
        else:
            assert words[-1][2] is None
            words[-1][2] = event.end_s
    return words


@given(st.lists(TOKENS, max_size=60), st.sampled_from([1, 3, 6]), st.integers(0, 12))
def test_streamed_words_are_the_words_of_the_whole(tokens, delay_steps, first_step):
    spoken = reader(Pieces("\u2581a", "\u2581b", "c", ""), delay_steps=delay_steps)
    probabilities = [(1 + step % 7) / 8 for step in range(len(tokens))]
    whole = spoken.read(tokens, probabilities, 1000.0, first_step)
    streamed = words_of(events_of(tokens, probabilities, spoken, first_step))
    assert streamed == [[w.text, w.start_s, w.end_s, w.confidence] for w in whole]


def test_a_word_is_known_at_the_step_after_its_last_piece_and_its_end_at_the_end_of_padding():
    tokens = [PAD, END, 4, 6, PAD, PAD, END, 5, PAD]
    steps = events_of(tokens, [1.0] * 9, reader(Pieces("\u2581a", "\u2581b", "c"), delay_steps=1))
    assert [len(step) for step in steps] == [0, 0, 0, 0, 1, 0, 1, 0, 1, 1]
    assert steps[4] == [WordBegin("ac", 0.08, 1.0)]
    assert steps[6] == [WordEnd(0.48)]
    assert steps[8] == [WordBegin("b", 0.48, 1.0)]


def test_the_published_tokens_give_the_published_times():
    spoken = reader(Precision(), delay_steps=32)
    words = words_of(events_of(GOLDEN, [1.0] * len(GOLDEN), spoken))
    assert words[0] == ["1519+263", pytest.approx(1.52), pytest.approx(1.92), 1.0]
    assert len(words) == 17


def test_a_marker_ends_the_last_word_once():
    stream = WordStream(reader(Pieces("\u2581a"), delay_steps=1))
    list(stream.read(4, 1.0)), list(stream.read(PAD, 1.0))
    assert list(stream.end_word()) == [WordEnd(1.0)]
    assert list(stream.end_word()) == list(stream.read(END, 1.0)) == list(stream.end()) == []
