"""A fused Mimi outputs what the plain one does; without a GPU its kernels are interpreted."""

from dataclasses import replace

import pytest
import torch

from nightscribe.benchmarks.random_weights import TOY_MIMI, config_of, random_speech
from nightscribe.model.transformer import Window

pytest.importorskip("triton", reason="triton is not installed: our kernels were not run")

from nightscribe.model import codec_kernels, codec_state_kernels, codec_transformer_kernels
from nightscribe.model.fused_codec import FusedMimi, FusedTransformer, can_fuse

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# As narrow as the kernels allow; the ring of 20 positions wraps.
WIDE = {"num_filters": 32, "seanet_dim": 64, "dim": 64, "num_heads": 2}
CONFIG = replace(config_of("toy"), mimi=replace(TOY_MIMI, **WIDE))
NUM_SLOTS, IDLE = 4, 4


@pytest.fixture(scope="module", autouse=True)
def exact():
    """A GPU would round convolutions to TF32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield


@pytest.fixture(scope="module")
def mimi():
    speech = random_speech(CONFIG, DEVICE, torch.float32)
    for name, parameter in speech.mimi.named_parameters():
        if name.endswith(("bias", "norm.weight", "factors_D")):
            parameter.normal_(std=0.3)
    return speech.mimi


def slots(*numbers):
    return torch.tensor(numbers, device=DEVICE)


def noisy_state(mimi, max_frames):
    """Slots whose streams are at other positions, with numbers of earlier streams in them."""
    state = mimi.initial_state(NUM_SLOTS + 1, max_frames)
    torch.manual_seed(1)
    for tensor in (state.pasts_BF, *state.cache.keys.tensors(), *state.cache.values.tensors()):
        tensor.normal_()
    state.cache.next_positions_B.copy_(slots(6, 0, 2000, 38, 0))
    return state


def assert_alike(found, wanted):
    """The state of the slots; the idle one has anything."""
    torch.testing.assert_close(found.pasts_BF[:IDLE], wanted.pasts_BF[:IDLE], rtol=0, atol=1e-4)
    for ours, theirs in (
        (found.cache.keys, wanted.cache.keys),
        (found.cache.values, wanted.cache.values),
    ):
        for mine, other in zip(ours.tensors(), theirs.tensors(), strict=True):
            torch.testing.assert_close(mine[:, :IDLE], other[:, :IDLE], rtol=0, atol=1e-4)
    positions = (one.cache.next_positions_B[:IDLE].tolist() for one in (found, wanted))
    assert next(positions) == next(positions)


# Slot 2 goes on, in slot 3 a stream begins, slot 0's ends.
ROWS = ((2, 3, 0), (2, 3, IDLE), (0, 1, 0))


def test_codes_and_slots_are_those_of_the_plain_codec(mimi):
    states, fused = [noisy_state(mimi, 1) for _ in range(2)], FusedMimi(mimi)
    rows = [slots(*numbers) for numbers in ROWS]  # of the last, most of the ring is not in use
    samples_RN = (torch.randn(3, 1920, device=DEVICE) * 6000).to(torch.int16)
    found, wanted = (
        encode(samples_RN, state, *rows)
        for encode, state in zip((fused.encode_slots, mimi.encode_slots), states, strict=True)
    )
    assert torch.equal(found, wanted)
    assert len(found.unique()) > 3
    assert_alike(*states)


@pytest.mark.parametrize("num_new", [2, 26])  # of 26, no query of the second block sees the past
@torch.no_grad()
def test_positions_are_transformed_from_ring_to_ring(mimi, num_new, monkeypatch):
    monkeypatch.setattr(codec_transformer_kernels, "QUERIES", 16)
    states = [noisy_state(mimi, 13) for _ in range(2)]
    sources_R, targets_R, fresh_R = (slots(*numbers) for numbers in ROWS)
    bias_D = torch.randn(64, device=DEVICE)
    x_RDT = torch.randn(3, 64, num_new, device=DEVICE)
    starts_R = states[0].cache.next_positions_B[sources_R] * (fresh_R == 0)
    fused = FusedTransformer(mimi.transformer, bias_D)
    found = fused.extend(x_RDT.mT, states[0], (sources_R, targets_R, starts_R))
    group = states[1].rows(sources_R)
    group.cache.reset(fresh_R > 0)
    wanted = mimi.transformer.extend(x_RDT.mT + bias_D, group.cache)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 * float(wanted.abs().max()))
    states[1].put_new(targets_R, group, num_new)
    states[0].cache.next_positions_B.copy_(states[1].cache.next_positions_B)
    states[0].pasts_BF.copy_(states[1].pasts_BF)
    assert_alike(*states)


def test_the_nearest_entry_is_the_first_of_equal_ones_and_leaves_the_rest():
    scores_MV = torch.randn(9, 50, device=DEVICE)
    scores_MV[3, 7] = scores_MV[3, 41] = 99
    codebook_VW = torch.randn(50, 12, device=DEVICE)
    residual_MW = torch.ones(9, 12, device=DEVICE)
    codes_M = torch.empty(9, dtype=torch.int64, device=DEVICE)
    codec_kernels.take_nearest(scores_MV, codebook_VW, residual_MW, codes_M)
    assert torch.equal(codes_M, scores_MV.argmax(dim=-1))
    assert codes_M[3] == 7
    assert torch.equal(residual_MW, 1 - codebook_VW[codes_M])


@pytest.mark.parametrize("num_columns", [2, 90])  # fewer columns than a past has, and more
@pytest.mark.parametrize("fresh", [None, (1, 0, 0)])
def test_the_past_and_what_follows_are_joined(num_columns, fresh):
    pasts = torch.randn(2, 3, 100, device=DEVICE)
    past_RCP, new_RCP = (one[:, 10:95].unflatten(1, (17, 5)) for one in pasts)
    x_RCN, bias_C = (
        torch.randn(3, num_columns, 17, device=DEVICE).mT,
        torch.randn(17, device=DEVICE),
    )
    fresh_R = None if fresh is None else slots(*fresh)
    found = codec_state_kernels.join_past(x_RCN, bias_C, past_RCP, new_RCP, fresh_R, 0.5, True)
    x_RCN = torch.nn.functional.elu(x_RCN * 0.5 + bias_C[:, None])
    wanted = torch.cat((past_RCP, x_RCN), dim=2)
    if fresh is not None:
        wanted[0, :, :5] = x_RCN[0, :, :1]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(new_RCP, wanted[..., num_columns:])


def test_a_codec_too_narrow_for_the_kernels_stays_as_it_is(mimi):
    assert can_fuse(mimi)
    assert not can_fuse(random_speech(config_of("toy"), DEVICE, torch.float32).mimi)
    assert mimi.transformer.geometry.window == Window(20, block=2)
