"""Parts of the transformer that random models exercise too little."""

import pytest
import torch

from nightscribe.model import transformer
from nightscribe.model.transformer import RMSNorm, Window


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loudness", [1e-5, 1e-4, 1.0, 1e4])
def test_norms_of_quiet_and_loud_vectors_equal_the_reference(loudness, dtype):
    transformer = pytest.importorskip("moshi.modules.transformer")
    theirs = transformer.create_norm_fn("rms_norm_f32", 32).to(dtype)
    theirs.alpha.data.uniform_(0.5, 1.5)
    ours = RMSNorm(32, eps=1e-8).to(dtype)
    ours.scale_D.data.copy_(theirs.alpha[0, 0])
    x_BTD = (torch.randn(2, 3, 32) * loudness).to(dtype)
    assert torch.allclose(ours(x_BTD), theirs(x_BTD), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_norm_of_a_gpu_rounds_as_that_of_a_cpu(dtype):
    norm = RMSNorm(2048, eps=1e-8).to(dtype)
    with torch.no_grad():
        norm.scale_D.copy_(torch.rand(2048) + 0.5)
    x_BTD = (torch.randn(7, 3, 2048) * 5).to(dtype)
    assert torch.equal(transformer._fused_rms_norm(x_BTD, norm.scale_D, norm.eps), norm(x_BTD))


def test_a_block_shares_its_oldest_key():
    positions_BT = torch.arange(12)[None]
    visible_TC = Window(context=4, block=2).visible_BTC(positions_BT, positions_BT)[0]
    oldest_T = visible_TC.int().argmax(-1)
    assert oldest_T.tolist() == [0, 0, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    newest_T = 11 - visible_TC.flip(-1).int().argmax(-1)
    assert newest_T.tolist() == list(range(12))


def test_keys_of_an_earlier_stream_are_not_visible():
    visible_BTC = Window(context=4).visible_BTC(torch.tensor([[1]]), torch.tensor([[0, 1, -2, -1]]))
    assert visible_BTC.tolist() == [[[True, True, False, False]]]
