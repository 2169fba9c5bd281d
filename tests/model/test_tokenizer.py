"""Both kinds of tokenizer files read and write the same text."""

import pytest

from nightscribe.model.tokenizer import open_tokenizer
from tests.model.checkpoints.layouts import write_json_tokenizer
from tests.model.checkpoints.weights import TEXT_CARD, write_tokenizer


@pytest.fixture(params=[write_tokenizer, write_json_tokenizer], ids=["model", "json"])
def tokenizer(request, tmp_path):
    return open_tokenizer(request.param(tmp_path))


TEXTS = ["the night is long", "one two", "a", "caf\u00e9 \u0153uvre \u6f22"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_encoding_also_where_only_bytes_can_spell_it(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert all(3 < token < TEXT_CARD for token in tokens)
    assert tokenizer.decode(tokens) == text


def test_both_kinds_give_the_same_tokens(tmp_path):
    json_kind = open_tokenizer(write_json_tokenizer(tmp_path))
    model_kind = open_tokenizer(write_tokenizer(tmp_path))
    for text in TEXTS:
        assert json_kind.encode(text) == model_kind.encode(text)


def test_unknown_and_control_tokens_have_no_text(tokenizer):
    tokens = tokenizer.encode("the night")
    assert tokenizer.decode([0, 3, *tokens, 1, 2, 3, 0]) == "the night"
    assert tokenizer.decode([]) == ""


def test_words_begin_where_a_space_stood(tokenizer):
    tokens = tokenizer.encode("the night is")
    assert sum(map(tokenizer.begins_word, tokens)) == 3
    assert tokenizer.begins_word(tokens[0])
    assert not any(map(tokenizer.begins_word, [0, 1, 2, 3]))


def test_a_json_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        open_tokenizer(path)
