"""Texts of the small model's speech: every word as often, short words more often and in passing."""

from collections import Counter
from pathlib import Path

from ops.tiny.grammar import PASSING, PHRASE_ONLY, Grammar

VOCABULARY = Path("models/tiny/vocabulary.txt").read_text(encoding="utf-8").split()
DRAWN = list(Grammar(VOCABULARY, seed=3).draw(1500))
COUNTS = Counter(word for text, _ in DRAWN for word in text.split())


def test_only_words_of_the_vocabulary_are_said_and_every_one():
    assert set(COUNTS) == set(VOCABULARY)


def test_words_are_said_about_as_often_as_each_other_and_short_ones_more_often():
    others = [count for word, count in COUNTS.items() if word not in PASSING]
    assert max(others) < 2 * min(others)
    assert min(COUNTS[word] for word in PASSING) > 2 * min(others)


def test_words_that_sound_like_others_are_said_in_phrases_alone():
    for text, kind in DRAWN:
        if kind != "phrase":
            assert not PHRASE_ONLY & set(text.split())


def test_equal_seeds_draw_equal_texts():
    assert list(Grammar(VOCABULARY, seed=3).draw(40)) == DRAWN[:40]
