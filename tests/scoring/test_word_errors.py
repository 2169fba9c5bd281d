"""The counts are compared with an edit distance computed here, without the library."""

from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.scoring.word_errors import (
    TextPair,
    as_written,
    combine_scores,
    normaliser,
    score_corpus,
)

sentences = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=9).map(
    " ".join
)
pair_lists = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6)


def edit_distance(reference, hypothesis):
    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        swap = distance(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1])
        return min(swap, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(reference), len(hypothesis))


def corpus(texts):
    pairs = [TextPair(str(index), *both) for index, both in enumerate(texts)]
    return score_corpus(pairs, as_written)


@given(pair_lists)
def test_word_errors_equal_an_independent_count(texts):
    score = corpus(texts)
    distances = [
        edit_distance(reference.split(), hypothesis.split()) for reference, hypothesis in texts
    ]
    assert [one.words.num_errors for one in score.pairs] == distances
    assert score.words.num_errors == sum(distances)
    assert score.words.num_reference == sum(len(reference.split()) for reference, _ in texts)
    num_hypothesis = sum(len(hypothesis.split()) for _, hypothesis in texts)
    assert score.words.hits + score.words.substitutions + score.words.insertions == num_hypothesis


@given(pair_lists)
def test_character_errors_equal_an_independent_count(texts):
    score = corpus(texts)
    assert score.characters.num_errors == sum(edit_distance(*both) for both in texts)
    assert score.characters.num_reference == sum(len(reference) for reference, _ in texts)


@given(pair_lists)
def test_errors_by_word_add_up_and_explain_the_difference(texts):
    score = corpus(texts)
    by_word = score.confusions
    assert by_word.substitutions.total() == score.words.substitutions
    assert by_word.deletions.total() == score.words.deletions
    assert by_word.insertions.total() == score.words.insertions
    words = Counter(word for reference, _ in texts for word in reference.split())
    for (reference, hypothesis), times in by_word.substitutions.items():
        words[reference] -= times
        words[hypothesis] += times
    words.subtract(by_word.deletions)
    words.update(by_word.insertions)
    assert +words == Counter(word for _, hypothesis in texts for word in hypothesis.split())


def test_corpus_and_mean_rates_differ_where_lengths_do():
    score = corpus([("a b c d e f g h i j", "a b c d e f g h i x"), ("a", "b")])
    assert score.words.rate == pytest.approx(2 / 11)
    assert score.mean_word_error_rate == pytest.approx((0.1 + 1.0) / 2)


def test_words_for_an_empty_reference_count_but_have_no_rate():
    score = corpus([("", "made up"), ("all right", "all right")])
    assert score.pairs[0].words.rate is None
    assert score.words.insertions == 2
    assert score.words.rate == 1.0
    assert [one.pair.recording_id for one in score.worst(2)] == ["0", "1"]


def test_the_worst_come_first():
    score = corpus([("a b c d", "a b c d"), ("a b", "x y"), ("a b c d", "a b c x")])
    assert [one.pair.recording_id for one in score.worst(2)] == ["1", "2"]


def test_an_empty_corpus_has_no_rate():
    assert score_corpus([], as_written).words.rate is None


@given(pair_lists, st.integers(0, 6))
def test_corpora_scored_apart_and_combined_are_one(texts, cut):
    pairs = [TextPair(str(index), *both) for index, both in enumerate(texts)]
    apart = (score_corpus(some, as_written) for some in (pairs[:cut], pairs[cut:]))
    assert combine_scores(apart) == corpus(texts)


def test_english_normalisation_ignores_spelling_numbers_and_case():
    normalise = normaliser("en")
    assert normalise("Mr. Smith's colour, twenty-one!") == normalise("mister smith's color 21")
    assert score_corpus([TextPair("x", "It's 9.", "it is nine")], normalise).words.num_errors == 0


def test_plain_normalisation_keeps_accents_and_drops_punctuation():
    assert (
        normaliser("fr")("C'est l'\u00e9t\u00e9, \u00e7a va ?")
        == "c est l \u00e9t\u00e9 \u00e7a va"
    )
    assert normaliser("is")("\u00deetta er 21.") == "\u00feetta er 21"
