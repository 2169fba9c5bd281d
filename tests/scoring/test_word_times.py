import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.records import Word
from nightscribe.scoring.word_times import start_shifts_s, time_errors


def spoken(text, shift_s=0.0):
    return [
        Word(part, 1 + index + shift_s, 1.5 + index + shift_s, 0.9)
        for index, part in enumerate(text.split())
    ]


def test_a_constant_delay_is_found_with_its_sign():
    shifts_s = start_shifts_s(spoken("We met, at noon."), spoken("we met at noon", shift_s=0.08))
    assert shifts_s == pytest.approx([0.08] * 4)
    errors = time_errors(start_shifts_s(spoken("we met"), spoken("we met", shift_s=-0.2)))
    assert (errors.median_s, errors.median_shift_s) == pytest.approx((0.2, -0.2))


def test_only_correct_words_are_timed():
    hypothesis = spoken("we never met at moon")
    shifts_s = start_shifts_s(spoken("we met at noon"), hypothesis)
    assert shifts_s == [0.0, 1.0, 1.0]


def test_words_without_letters_do_not_move_the_others():
    assert start_shifts_s(spoken("well - yes"), spoken("well - yes")) == [0.0, 0.0]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200))
def test_quantiles_equal_an_independent_count(shifts_s):
    errors = time_errors(shifts_s)
    assert errors.num_words == len(shifts_s)
    assert errors.median_s == pytest.approx(np.median(np.abs(shifts_s)))
    assert errors.p90_s == np.quantile(np.abs(shifts_s), 0.9, method="inverted_cdf")


def test_nothing_to_time_has_no_error():
    assert time_errors(start_shifts_s(spoken("one"), spoken("two"))) is None
