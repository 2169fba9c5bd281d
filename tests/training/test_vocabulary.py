import pytest
import torch

from nightscribe.training.vocabulary import (
    extended_config,
    extended_tensor,
    extended_tokenizer,
    processor,
    read_pieces,
    spellings,
)
from tests.training.models import LANGUAGE_MODEL, small_model, tokenizer_model

PIECES = ["\u2581hospital", "ward"]


def extended(name):
    tensor = small_model().language_model.native_tensors()[name].read()
    spelt = spellings(tokenizer_model(), PIECES)
    return tensor, extended_tensor(name, tensor, LANGUAGE_MODEL, spelt), spelt


def test_old_tokens_keep_their_ids_and_new_pieces_come_after_them():
    old, new = (
        processor(tokenizer_model()),
        processor(extended_tokenizer(tokenizer_model(), PIECES)),
    )
    assert new.encode("low high") == old.encode("low high")
    assert new.encode("hospital") == [old.get_piece_size()]
    assert new.decode(new.encode("low hospital ward")) == "low hospital ward"


def test_a_new_piece_starts_as_the_mean_of_the_pieces_that_spelled_it():
    old, new, spelt = extended("text_linear.weight")
    assert len(new) == len(old) + 2
    torch.testing.assert_close(new[-2], old[spelt[0]].mean(dim=0))


def test_the_start_row_stays_last():
    old, new, _ = extended("text_emb.weight")
    assert torch.equal(new[: LANGUAGE_MODEL.text_card], old[: LANGUAGE_MODEL.text_card])
    assert torch.equal(new[-1], old[-1])
    config = extended_config(LANGUAGE_MODEL, 2)
    assert (config.text_start_id, config.num_text_rows) == (36, 37) == (len(new) - 1, len(new))


def test_other_tensors_do_not_change():
    old, new, _ = extended("out_norm.alpha")
    assert new is old


@pytest.mark.parametrize("pieces", [["\u2581low"], ["ward", "ward"]])
def test_a_piece_cannot_be_added_twice(pieces):
    with pytest.raises(ValueError, match="twice"):
        extended_tokenizer(tokenizer_model(), pieces)


def test_a_leading_space_in_the_file_of_pieces_marks_the_start_of_a_word(tmp_path):
    (tmp_path / "pieces.txt").write_text(" hospital\n\nward\n")
    assert read_pieces(tmp_path / "pieces.txt") == PIECES


def test_a_byte_order_mark_is_not_a_piece(tmp_path):
    (tmp_path / "pieces.txt").write_text("\ufeffward\r\n hospital\r\n")
    assert read_pieces(tmp_path / "pieces.txt") == PIECES[::-1]
