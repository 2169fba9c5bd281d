"""Mimi outputs the codes of the reference, in whatever pieces it gets a recording."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from nightscribe.model.cpu_weights import PackedConv1d, pack
from nightscribe.model.mimi import Mimi
from tests.model.reference import SMALL_MIMI, native, random_moshi_mimi

pytest.importorskip("moshi")

# The ring of the reference is full from frame 125 on.
REAL_WIDTH_MIMI = replace(
    SMALL_MIMI,
    num_filters=64,
    seanet_dim=512,
    dim=512,
    num_heads=8,
    ffn_dim=2048,
    context=250,
    codebook_dim=256,
    codebook_size=2048,
    num_codebooks=32,
)


@pytest.fixture(scope="module")
def moshi():
    return random_moshi_mimi(SMALL_MIMI, seed=1)


@pytest.fixture(scope="module")
def mimi(moshi):
    return Mimi.load(SMALL_MIMI, native(moshi.state_dict()), "cpu")


def noise(num_rows: int, num_frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, num_frames * 1920, generator=generator) * 0.3


@torch.no_grad()
def reference_codes(moshi, samples_BN: torch.Tensor) -> torch.Tensor:
    """StreamOutput frame by frame, as the reference's own inference does."""
    with moshi.streaming(len(samples_BN)):
        frames = samples_BN[:, None].split(1920, dim=-1)
        return torch.cat([moshi.encode(frame) for frame in frames], dim=-1).mT


def fresh(num_rows: int) -> torch.Tensor:
    return torch.ones(num_rows, dtype=torch.bool)


@pytest.mark.parametrize("frames_per_piece", [1, 2, 7, 25, 60])
def test_codes_equal_the_reference_in_pieces_of_any_length(mimi, moshi, frames_per_piece):
    samples_BN = noise(num_rows=2, num_frames=60)
    state = mimi.initial_state(2, frames_per_piece)
    codes_BFK = mimi.encode(samples_BN, state, fresh(2))
    assert torch.equal(codes_BFK, reference_codes(moshi, samples_BN))
    assert min(len(codes.unique()) for codes in codes_BFK.flatten(0, 1).T) > 20


@pytest.mark.parametrize("frames_per_piece", [1, 7, 60])
def test_a_packed_codec_outputs_the_codes_of_the_reference(mimi, moshi, frames_per_piece):
    samples_BN = noise(num_rows=2, num_frames=60)
    packed = deepcopy(mimi)
    pack(packed, num_rows=50)
    assert any(isinstance(module, PackedConv1d) for module in packed.modules())
    codes_BFK = packed.encode(samples_BN, packed.initial_state(2, frames_per_piece), fresh(2))
    assert torch.equal(codes_BFK, reference_codes(moshi, samples_BN))


def test_calls_of_different_lengths_continue_one_another(mimi, moshi):
    samples_BN = noise(num_rows=2, num_frames=40)
    state, begins = mimi.initial_state(2, 8), fresh(2)
    codes = []
    for piece_BN in samples_BN.split([1920 * frames for frames in (1, 20, 3, 16)], dim=-1):
        codes.append(mimi.encode(piece_BN, state, begins))
        begins = torch.zeros(2, dtype=torch.bool)
    assert torch.equal(torch.cat(codes, dim=1), reference_codes(moshi, samples_BN))


def test_whole_waveforms_have_the_latents_of_the_reference_past_its_window(mimi, moshi):
    samples_BN = noise(num_rows=2, num_frames=40)
    with torch.no_grad():
        latents_BFD = mimi(samples_BN)
    with torch.no_grad(), moshi.streaming(2):
        frames = samples_BN[:, None].split(1920, dim=-1)
        reference = torch.cat([moshi.encode_to_latent(f, quantize=False) for f in frames], -1).mT
    assert torch.allclose(latents_BFD, reference, rtol=0, atol=2e-5 * reference.abs().max())


def test_no_part_of_the_codec_sees_more_than_a_piece(mimi):
    def most_numbers_seen(num_frames: int) -> dict[str, int]:
        most: dict[str, int] = {}

        def see(module, inputs) -> None:
            most[names[module]] = max(most.get(names[module], 0), inputs[0].numel())

        names = {module: name for name, module in mimi.named_modules()}
        hooks = [module.register_forward_pre_hook(see) for module in names]
        mimi.encode(noise(1, num_frames), mimi.initial_state(1, 4), fresh(1))
        for hook in hooks:
            hook.remove()
        return most

    assert most_numbers_seen(80) == most_numbers_seen(8)


def test_a_fresh_row_starts_anew_and_its_neighbour_goes_on(mimi):
    first, second = noise(2, 30, seed=1), noise(2, 30, seed=2)
    state = mimi.initial_state(2)
    mimi.encode(first, state, fresh(2))
    codes = mimi.encode(second, state, torch.tensor([True, False]))
    anew = mimi.encode(second[:1], mimi.initial_state(1), fresh(1))
    continued = mimi.encode(torch.cat((first, second), dim=-1)[1:], mimi.initial_state(1), fresh(1))
    assert torch.equal(codes[:1], anew)
    assert torch.equal(codes[1:], continued[:, 30:])


def test_neighbours_never_change_a_row(mimi):
    alone = noise(1, 30)
    crowd = torch.cat((noise(3, 30, seed=5) * 100, alone, torch.zeros_like(alone)))
    codes = mimi.encode(crowd, mimi.initial_state(5), fresh(5))
    assert torch.equal(codes[3:4], mimi.encode(alone, mimi.initial_state(1), fresh(1)))


def test_fewer_codebooks_are_a_prefix_of_all(mimi, moshi):
    samples_BN = noise(1, 12)
    all_codes = mimi.encode(samples_BN, mimi.initial_state(1), fresh(1))
    for num_codebooks in (1, 3):
        config = replace(SMALL_MIMI, num_codebooks=num_codebooks)
        few = Mimi.load(config, native(moshi.state_dict()), "cpu")
        codes = few.encode(samples_BN, few.initial_state(1), fresh(1))
        assert torch.equal(codes, all_codes[..., :num_codebooks])


def test_native_tensors_come_back_as_they_were_loaded(mimi, moshi):
    written = {name: place.read() for name, place in mimi.native_tensors().items()}
    for name, tensor in native(moshi.state_dict()):
        if name.endswith("embedding_sum"):
            usage = name.replace("embedding_sum", "cluster_usage")
            tensor = tensor / dict(native(moshi.state_dict()))[usage][:, None]
        if name in written and not name.endswith("cluster_usage"):
            assert torch.equal(written.pop(name), tensor), name
    assert all(name.endswith("cluster_usage") for name in written)


def test_every_weight_before_the_quantizer_learns():
    mimi = Mimi(SMALL_MIMI)
    mimi(noise(2, 15)).square().sum().backward()
    still = [name for name, weight in mimi.named_parameters() if weight.grad is None]
    assert all(name.startswith("quantizer.") for name in still)


def test_the_published_width_has_the_codes_of_the_reference_past_ten_seconds():
    moshi = random_moshi_mimi(REAL_WIDTH_MIMI, seed=2)
    mimi = Mimi.load(REAL_WIDTH_MIMI, native(moshi.state_dict()), "cpu")
    samples_BN = noise(num_rows=1, num_frames=150)
    codes = mimi.encode(samples_BN, mimi.initial_state(1), fresh(1))
    assert torch.equal(codes, reference_codes(moshi, samples_BN))
