"""Terms get their bonus in their slot and at their place; without a bonus nothing changes."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscribe.model.term_bias import StreamTermBias, TermBias, TermTrie, preferred
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
    table = logits(*likeliest)
    return (preferred(table, one.bonus_SV(table, fresh), PADDING) - table).tolist()


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
    table = torch.randn(2, WORDS)
    assert torch.equal(preferred(table, one.bonus_SV(table, NOBODY), PADDING), table)


def own(*tries, strength=2.0):
    """A bias with the terms of streams, the tries of a round."""
    bias = StreamTermBias(strength, PADDING, torch.zeros(2, dtype=torch.int64), len(tries))
    edges = []
    for terms in tries:
        trie = TermTrie(0.0)
        for term in terms:
            trie.add(term)
        edges.append(trie.edges_E3())
    bias.load(edges, torch.from_numpy)
    return bias


def own_bonus(one, tries, *likeliest, fresh=NOBODY):
    table = logits(*likeliest)
    bonus_SV = one.bonus_SV(table, fresh, torch.tensor(tries))
    return (preferred(table, bonus_SV, PADDING) - table).tolist()


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(2, 7), min_size=1, max_size=4), min_size=1, max_size=5),
    st.lists(st.integers(0, 7), max_size=12),
)
def test_the_terms_of_a_stream_are_preferred_as_those_of_a_run_and_by_it_alone(terms, said):
    of_run, of_stream = bias(*terms), own([[7]], terms)
    for token in said:
        expected = bonus(of_run, 7, 7)
        assert own_bonus(of_stream, [2, 0], 7, 7) == [expected[0], [0] * WORDS]
        both = torch.tensor([token, token])
        of_run.advance(both, NOBODY)
        of_stream.advance(both, NOBODY, torch.tensor([2, 0]))


def test_a_slot_on_hold_stays_in_a_term_of_its_stream_and_a_fresh_one_leaves_it():
    one, tries = own([[2, 3]]), [1, 1]
    one.advance(torch.tensor([2, 2]), NOBODY, torch.tensor(tries))
    one.advance(torch.tensor([7, 7]), torch.tensor([True, False]), torch.tensor(tries))
    assert [row[3] for row in own_bonus(one, tries, 7, 7)] == [2, 0]
    fresh = torch.tensor([True, False])
    assert [row[3] for row in own_bonus(one, tries, 7, 7, fresh=fresh)] == [0, 0]


def test_terms_that_the_pieces_cannot_write_are_refused_by_name():
    tokenizer = open_tokenizer(TINY / "tokenizer.model")
    assert len(TermTrie.of(["please", "try again"], 2.0, tokenizer).children) > 3
    with pytest.raises(ValueError, match="the term 'Łódź' cannot be written in the model's pieces"):
        TermTrie.of(["please", "Łódź"], 2.0, tokenizer)
