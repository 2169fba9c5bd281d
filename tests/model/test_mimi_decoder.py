"""Codes become the samples of the reference, in one piece or many, with weights packed or not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nightscribe.model.cpu_weights import ProductConvTranspose1d, pack
from nightscribe.model.mimi_decoder import MimiDecoder
from tests.model import reference

CONFIG = reference.SMALL_MIMI
NUM_FRAMES = 24  # the window is ten frames long


@pytest.fixture(scope="module")
def moshi_mimi():
    pytest.importorskip("moshi", reason="the reference is not installed")
    mimi = reference.random_moshi_mimi(CONFIG, seed=5)
    for module in mimi.decoder.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            module.weight.data *= 1.5  # sound survives
            module.bias.data += 0.1 * torch.randn_like(module.bias)
    return mimi


@pytest.fixture(scope="module", params=["plain", "packed"])
def decoder(request, moshi_mimi) -> MimiDecoder:
    decoder = MimiDecoder.load(CONFIG, reference.native(moshi_mimi.state_dict()), "cpu")
    if request.param == "packed":
        pack(decoder, num_rows=50)
        products = [one for one in decoder.modules() if isinstance(one, ProductConvTranspose1d)]
        assert len(products) == len(CONFIG.encoder_ratios)
    return decoder


def random_codes(num_rows: int, num_codebooks: int = CONFIG.num_codebooks) -> Tensor:
    generator = torch.Generator().manual_seed(num_codebooks)
    shape = (num_rows, NUM_FRAMES, num_codebooks)
    return torch.randint(0, CONFIG.codebook_size, shape, generator=generator)


@torch.no_grad()
def frame_by_frame(mimi, codes_BFK: Tensor) -> Tensor:
    with mimi.streaming(len(codes_BFK)):
        frames = [mimi.decode(codes_BK1) for codes_BK1 in codes_BFK.mT.split(1, dim=-1)]
    return torch.cat(frames, dim=-1)[:, 0]


@pytest.mark.parametrize("num_codebooks", [CONFIG.num_codebooks, 3])
def test_samples_are_those_of_the_reference_beyond_the_window(moshi_mimi, decoder, num_codebooks):
    codes_BFK = random_codes(2, num_codebooks)
    expected_BN = frame_by_frame(moshi_mimi, codes_BFK)
    samples_BN = decoder.decode(codes_BFK, decoder.initial_state(2))
    assert expected_BN.std() > 1e-3
    torch.testing.assert_close(samples_BN, expected_BN, rtol=0, atol=1e-5 * expected_BN.abs().max())


@pytest.mark.parametrize("frames_per_piece", [1, 2, 5])
def test_pieces_of_any_length_give_the_same_samples(decoder, frames_per_piece):
    codes_BFK = random_codes(2)
    whole_BN = decoder.decode(codes_BFK, decoder.initial_state(2))
    state = decoder.initial_state(2, frames_per_piece)
    pieces = [decoder.decode(piece, state) for piece in codes_BFK.split(7, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=-1), whole_BN, rtol=0, atol=1e-6)


def test_a_row_that_begins_again_forgets_what_it_decoded(decoder):
    codes_BFK = random_codes(2)
    state = decoder.initial_state(2)
    first_BN = decoder.decode(codes_BFK, state)
    state.reset(torch.tensor([True, False]))
    again_BN = decoder.decode(codes_BFK, state)
    torch.testing.assert_close(again_BN[0], first_BN[0], rtol=0, atol=1e-6)
    assert (again_BN[1] - first_BN[1]).abs().max() > 1e-3


def test_rows_that_are_decoded_in_a_copy_and_put_back_go_on_where_they_were(decoder):
    codes_BFK = random_codes(3)
    whole_BN = decoder.decode(codes_BFK, decoder.initial_state(3))
    state, rows_R = decoder.initial_state(3), torch.tensor([2, 0])
    pieces = []
    for piece_BFK in codes_BFK[rows_R].split(5, dim=1):
        copy = state.rows(rows_R)
        pieces.append(decoder.decode(piece_BFK, copy))
        state.put(rows_R, copy)
    torch.testing.assert_close(torch.cat(pieces, dim=-1), whole_BN[rows_R], rtol=0, atol=1e-6)


def test_codebooks_beyond_the_configured_ones_are_left_out(moshi_mimi, decoder):
    config = replace(CONFIG, num_codebooks=3)
    smaller = MimiDecoder.load(config, reference.native(moshi_mimi.state_dict()), "cpu")
    codes_BFK = random_codes(1, 3)
    expected_BN = decoder.decode(codes_BFK, decoder.initial_state(1))
    samples_BN = smaller.decode(codes_BFK, smaller.initial_state(1))
    torch.testing.assert_close(samples_BN, expected_BN, rtol=0, atol=1e-6)
