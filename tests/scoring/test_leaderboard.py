"""Errors are compared with a plain recursion; the texts follow from the leaderboard's rules."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.scoring.leaderboard import (
    leaderboard_normaliser,
    score_leaderboard,
    word_errors_with_joins,
)
from nightscribe.scoring.word_errors import TextPair, normaliser

words = st.lists(st.sampled_from(["a", "b", "ab", "ba", "abb", "c"]), max_size=7)


def fewest_errors(reference, hypothesis):
    @cache
    def errors(i, j):
        if not i or not j:
            return i + j
        ways = [errors(i - 1, j) + 1, errors(i, j - 1) + 1]
        ways.append(errors(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1]))
        ways += [
            errors(start, j - 1)
            for start in range(i - 1)
            if "".join(reference[start:i]) == hypothesis[j - 1]
        ]
        ways += [
            errors(i - 1, start)
            for start in range(j - 1)
            if "".join(hypothesis[start:j]) == reference[i - 1]
        ]
        return min(ways)

    return errors(len(reference), len(hypothesis))


@given(words, words)
def test_errors_with_joins_equal_an_independent_count(reference, hypothesis):
    assert word_errors_with_joins(reference, hypothesis) == fewest_errors(reference, hypothesis)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("White-paper, um, huh?", "white paper"),
        ("It's John's", "it is john s"),  # "is" only after some words
        ("kinda, 'cause I dunno", "kinda cause i dunno"),
        ("the B. B. C. and 5 G", "the bbc and 5g"),
        ("a b or not, I B M", "a b or not ibm"),  # with "a" or "i" only from three letters
        ("Kathryn and Erik are all right", "catherine and eric are alright"),
        ("wi-fi at nine p.m., etcetera", "wifi at 9 pm etc"),
        ("an archaeological cancellation", "an archeological cancelation"),
    ],
)
def test_texts_are_written_as_on_the_leaderboard(text, expected):
    assert leaderboard_normaliser()(text) == expected


def test_whispers_normaliser_stays_as_it_is():
    leaderboard_normaliser()
    assert normaliser("en")("It's John's, huh, kinda all right") == (
        "it is john is huh kind of all right"
    )


def test_the_rate_is_of_the_words_of_all_references():
    pairs = [
        TextPair("1", "a white paper", "a whitepaper"),
        TextPair("2", "red green blue", "red green"),
        TextPair("3", "um", "loud"),
    ]
    score = score_leaderboard(pairs)
    assert (score.num_reference, score.num_errors) == (6, 2)
    assert score.rate == pytest.approx(2 / 6)
    assert score_leaderboard([TextPair("", "um", "")]).rate is None
