"""Terms get their bonus in their slot and at their place; without a bonus nothing changes."""

from pathlib import Path

import pytest
import torch

from nightscribe.model.term_bias import TermBias, TermTrie
from nightscribe.model.tokenizer import open_tokenizer

TINY = Path(__file__).parent.parent.parent / "models/tiny"
PADDING, WORDS = torch.tensor([0, 1]), 8
NOBODY = torch.tensor([False, False])


def bias(*terms, strength=2.0, num_slots=2):
    trie = TermTrie(strength)
    for term in terms:
        trie.add(term)
    return TermBias(trie, PADDING, torch.zeros(num_slots, dtype=torch.int64))


def logits(*likeliest):
    table = torch.zeros(len(likeliest), WORDS)
    table[range(len(likeliest)), list(likeliest)] = 1.0
    return table


def bonus(one, *likeliest, fresh=NOBODY):
    given = logits(*likeliest)
    return (one.biased(given, fresh) - given).tolist()


def test_first_pieces_get_the_bonus_and_then_those_that_continue():
    one = bias([2, 3], [2, 4, 5], [6])
    assert bonus(one, 7, 7) == [[0, 0, 2, 0, 0, 0, 2, 0]] * 2
    one.advance(torch.tensor([2, 7]), NOBODY)
    assert bonus(one, 7, 7) == [[0, 0, 2, 2, 2, 0, 2, 0], [0, 0, 2, 0, 0, 0, 2, 0]]


def test_silence_gets_no_bonus_and_keeps_the_place_in_a_term():
    one = bias([2, 3])
    one.advance(torch.tensor([2, 2]), NOBODY)
    one.advance(torch.tensor([0, 1]), NOBODY)
    assert bonus(one, 0, 7) == [[0] * 8, [0, 0, 2, 2, 0, 0, 0, 0]]


def test_another_piece_leaves_the_term_and_may_begin_the_next():
    one = bias([2, 3], [4, 5])
    one.advance(torch.tensor([2, 2]), NOBODY)
    one.advance(torch.tensor([7, 4]), NOBODY)
    assert bonus(one, 7, 7) == [[0, 0, 2, 0, 2, 0, 0, 0], [0, 0, 2, 0, 2, 2, 0, 0]]


def test_the_end_of_a_term_is_the_beginning_of_all():
    one = bias([2, 3])
    for token in (2, 3):
        one.advance(torch.tensor([token, token]), NOBODY)
    assert bonus(one, 7, 7) == [[0, 0, 2, 0, 0, 0, 0, 0]] * 2


def test_a_fresh_stream_begins_outside_of_terms_and_a_held_one_stays():
    one = bias([2, 3])
    one.advance(torch.tensor([2, 2]), torch.tensor([False, True]))
    assert bonus(one, 7, 7)[0][3] == 2
    assert bonus(one, 7, 7)[1][3] == 0
    assert bonus(one, 7, 7, fresh=torch.tensor([True, False]))[0][3] == 0


def test_a_bonus_of_nothing_changes_no_bit():
    one = bias([2, 3], strength=0.0)
    given = torch.randn(2, WORDS)
    assert torch.equal(one.biased(given, NOBODY), given)


def test_terms_that_the_pieces_cannot_write_are_refused_by_name():
    tokenizer = open_tokenizer(TINY / "tokenizer.model")
    assert len(TermTrie.of(["please", "try again"], 2.0, tokenizer).children) > 3
    with pytest.raises(ValueError, match="the term 'Łódź' cannot be written in the model's pieces"):
        TermTrie.of(["please", "Łódź"], 2.0, tokenizer)
