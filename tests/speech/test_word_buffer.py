"""Text in pieces of any size gives the words of the whole."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nightscribe.speech.word_buffer import WordBuffer

TEXT = 'one  two,\n<break time="0.5s"/> three<break time="1s"/> four <b five'


@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_pieces_end_where_words_end_and_lose_nothing(cuts):
    bounds = [0, *sorted(cuts), len(TEXT)]
    buffer = WordBuffer()
    pieces = [buffer.add(TEXT[a:b]) for a, b in pairwise(bounds)]
    rest = buffer.take_rest()
    assert "".join(pieces) + rest == TEXT
    for piece in pieces:
        assert piece == "" or piece[-1].isspace() or piece.endswith("/>")
        assert piece.count("<break") == piece.count("/>")
    assert buffer.take_rest() == ""
