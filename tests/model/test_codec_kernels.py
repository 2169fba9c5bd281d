"""A fused Mimi outputs what the plain one does; without a GPU its kernels are interpreted."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from nightscribe.benchmarks.random_weights import TOY_MIMI, config_of, random_speech
from nightscribe.model import mimi as plain_mimi

pytest.importorskip("triton", reason="triton is not installed: our kernels were not run")

from nightscribe.model import codec_kernels
from nightscribe.model.fused_codec import FusedSEANet, fuse

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# As narrow as the kernels allow.
CONFIG = replace(config_of("toy"), mimi=replace(TOY_MIMI, num_filters=32))


@pytest.fixture(scope="module")
def mimi():
    speech = random_speech(CONFIG, DEVICE, torch.float32)
    for name, bias in speech.mimi.seanet.named_parameters():
        if name.endswith("bias"):
            bias.normal_(std=0.3)
    return speech.mimi


@pytest.fixture(scope="module")
def fused(mimi):
    one = deepcopy(mimi)
    fuse(one)
    assert isinstance(one.seanet, FusedSEANet)
    return one


@torch.no_grad()
def test_stages_output_what_the_plain_ones_do_piece_by_piece(mimi, fused):
    samples_BN = torch.randn(1, 2 * 1920, device=DEVICE) * 0.3
    pasts = [one.seanet.silence(1, DEVICE) for one in (mimi, fused)]
    for piece_BN in samples_BN.split(1920, dim=-1):
        wanted = mimi.seanet(piece_BN, pasts[0])
        found = fused.seanet(piece_BN, pasts[1])
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())
    for theirs, ours in zip(*pasts, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_nearest_entry_is_the_first_of_equal_ones_and_leaves_the_rest():
    scores_MV = torch.randn(9, 50, device=DEVICE)
    scores_MV[3, 7] = scores_MV[3, 41] = 99
    codebook_VW = torch.randn(50, 12, device=DEVICE)
    results = []
    for take in (plain_mimi.take_nearest, codec_kernels.take_nearest):
        residual_MW = torch.ones(9, 12, device=DEVICE)
        codes_M = torch.empty(9, dtype=torch.int64, device=DEVICE)
        take(scores_MV, codebook_VW, residual_MW, codes_M)
        results.append((codes_M.tolist(), residual_MW.tolist()))
    assert results[0] == results[1]
    assert results[0][0][3] == 7


def test_a_fused_codec_has_the_codes_of_the_plain_one(mimi, fused):
    samples_BN = torch.randn(1, 1920, device=DEVICE) * 0.3
    fresh = torch.ones(1, dtype=torch.bool, device=DEVICE)
    codes = [one.encode(samples_BN, one.initial_state(1), fresh) for one in (mimi, fused)]
    assert torch.equal(*codes)


def test_a_codec_too_narrow_for_the_kernels_stays_as_it_is():
    narrow = random_speech(config_of("toy"), DEVICE, torch.float32).mimi
    fuse(narrow)
    assert not isinstance(narrow.seanet, FusedSEANet)
