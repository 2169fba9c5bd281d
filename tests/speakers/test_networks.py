"""The networks against the original modules, by what these gave: see `ops/speakers/goldens.py`."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.speakers import activity_network
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.embedding_network import _Norm, _RectifiedProduct
from nightscribe.speakers.features import (
    at_16_khz,
    frames_of,
    log_mel,
    log_mel_of,
    num_frames,
)
from nightscribe.speakers.segmentation_network import local_speaker_sets
from nightscribe.speakers.weights import FACTORS, dequantized, load_networks, quantized

TOLERANCE = 1e-4
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def golden():
    return load_file(Path(__file__).parent / "goldens.safetensors")


@pytest.fixture(scope="module")
def networks():
    return load_networks(SpeakersConfig().checkpoint, CPU)


def test_features_are_those_of_kaldi(golden):
    features_TF = log_mel(golden["samples_N"][:24_000].float() / 32768)
    features_TF = features_TF - features_TF.mean(dim=0)
    assert features_TF.shape == golden["features_TF"].shape
    difference_TF = (features_TF - golden["features_TF"]).abs()
    # Logarithms of the quietest bins differ most.
    assert difference_TF.max() < 5e-3
    assert difference_TF.mean() < TOLERANCE


def test_embeddings_are_those_of_the_original(networks, golden):
    with torch.inference_mode():
        ours_BD = networks.embedding(golden["features_TF"][None])
    difference_BD = F.normalize(ours_BD) - F.normalize(golden["embedding_BD"])
    assert difference_BD.abs().max() < TOLERANCE


def test_segmentation_is_that_of_the_original(networks, golden):
    samples_N = torch.from_numpy(np.resize(golden["samples_N"].numpy(), 160_000)).float() / 32768
    with torch.inference_mode():
        ours_BTP = networks.segmentation(samples_N[None])
    assert (ours_BTP.exp() - golden["segmentation_BTP"].exp()).abs().max() < TOLERANCE
    assert (ours_BTP.argmax(-1) == golden["segmentation_BTP"].argmax(-1)).all()


def test_activity_is_that_of_the_original(golden):
    samples_N = golden["samples_N"].float() / 32768
    num_samples = len(golden["activity_S"]) * activity_network.STEP
    with torch.inference_mode():
        ours_BS = activity_network._network()(samples_N[None, :num_samples])
    assert (ours_BS[0] - golden["activity_S"]).abs().max() < TOLERANCE
    assert 0.2 < golden["activity_S"].mean() < 1


def test_an_embedding_depends_on_its_own_row_alone(networks, golden):
    features_TF = golden["features_TF"]
    beside_TF = torch.randn(features_TF.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        alone_BD = networks.embedding(features_TF[None])
        together_BD = networks.embedding(torch.stack([beside_TF, features_TF]))
    assert (alone_BD[0] - together_BD[1]).abs().max() < TOLERANCE


def test_a_rectified_product_is_a_norm_a_relu_and_a_matrix():
    draw = torch.Generator().manual_seed(3)
    x_TC = torch.randn(50, 6, generator=draw)
    stored = {
        "n.running_mean": torch.randn(6, generator=draw),
        "n.running_var": torch.rand(6, generator=draw) + 0.1,
        "n.weight": torch.tensor([1.5, -0.7, 0.0, 0.0, 1e-6, -2.0]),
        "n.bias": torch.tensor([0.3, -0.2, 0.4, -0.4, 0.5, 0.1]),
    }
    weight_OC, bias_O = torch.randn(4, 6, generator=draw), torch.randn(4, generator=draw)
    norm = _Norm(stored, "n")
    expected_TO = F.linear(norm(x_TC).relu(), weight_OC, bias_O)
    found_TO = _RectifiedProduct(norm, weight_OC, bias_O)(x_TC)
    assert (found_TO - expected_TO).abs().max() < 1e-5


@pytest.mark.parametrize("num_frames", [7, 100, 201, 230, 400])
def test_an_embedding_is_finite_for_any_number_of_frames(networks, num_frames):
    draw = torch.Generator().manual_seed(num_frames)
    with torch.inference_mode():
        vector_BD = networks.embedding(torch.randn(1, num_frames, 80, generator=draw))
    assert vector_BD.isfinite().all()


def test_classes_are_all_sets_of_at_most_two_of_three_speakers():
    sets = {tuple(row) for row in local_speaker_sets().int().tolist()}
    assert sets == {(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)} - {(1, 1, 1)}


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100, 48_000])
def test_resampling_keeps_a_tone_and_its_place(rate_hz):
    time_N = torch.arange(rate_hz) / rate_hz
    resampled_N = at_16_khz((8000 * (2 * torch.pi * 440 * time_N).sin()).short(), rate_hz)
    expected_N = 8000 / 32768 * (2 * torch.pi * 440 * torch.arange(16_000) / 16_000).sin()
    assert len(resampled_N) == 16_000
    assert (resampled_N - expected_N)[200:-200].abs().max() < 2e-3


def test_resampling_removes_what_16_khz_cannot_hold():
    time_N = torch.arange(24_000) / 24_000
    resampled_N = at_16_khz((8000 * (2 * torch.pi * 9_500 * time_N).sin()).short(), 24_000)
    assert resampled_N[200:-200].abs().max() < 2e-3


@pytest.mark.parametrize("num_samples", [0, 399, 400, 559, 560, 16_000])
def test_frames_are_counted_as_they_are_made(num_samples):
    made = len(log_mel(torch.randn(num_samples))) if num_samples >= 400 else 0
    assert num_frames(num_samples) == made


def test_features_of_some_frames_are_theirs_among_all_frames():
    samples_N = torch.randn(16_000, generator=torch.Generator().manual_seed(2))
    some = torch.tensor([3, 4, 50, 97])
    features_TF = log_mel_of(frames_of(samples_N)[some])
    assert (features_TF - log_mel(samples_N)[some]).abs().max() < TOLERANCE


def test_quantized_weights_are_within_half_a_step():
    tensor = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(1))
    whole, factors_C = quantized(tensor)
    restored = dequantized("w", {"w": whole, "w" + FACTORS: factors_C})
    assert ((restored - tensor).abs() <= factors_C.view(-1, 1, 1) / 2 * 1.001).all()


def test_a_checkpoint_without_a_tensor_is_refused_by_its_name(tmp_path):
    for name in ("embedding.safetensors", "segmentation.safetensors"):
        save_file({"linear.weight": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"it has no tensor 'sincnet"):
        load_networks(str(tmp_path), CPU)


def test_a_checkpoint_without_files_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"segmentation\.safetensors"):
        load_networks(str(tmp_path), CPU)
