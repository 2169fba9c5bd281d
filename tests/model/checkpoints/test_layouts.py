"""Every layout gives the same native tensors; quantized ones within half a step."""

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_checkpoint, open_model
from nightscribe.model.speech_to_text import SpeechToText
from tests.model import reference
from tests.model.checkpoints.layouts import (
    transformers_tensors,
    write_bitsandbytes,
    write_crispasr,
    write_gguf,
    write_mlx,
    write_transformers,
)
from tests.model.checkpoints.weights import random_weights, write_json, write_native


def assert_same(found, expected, tolerances=None):
    names = []
    for name, tensor in found:
        names.append(name)
        error = (tensor.float() - expected[name]).abs()
        allowed = tolerances(expected[name]) if tolerances else 0
        assert tensor.shape == expected[name].shape, name
        assert (error <= allowed).all(), f"{name} is off by {error.max()}"
    return set(names)


def test_transformers_files_give_back_every_native_tensor(tmp_path):
    weights = random_weights()
    checkpoint = open_checkpoint(str(write_transformers(tmp_path, weights)))
    expected = dict(weights.language_model)
    names = set(dict(checkpoint.mimi_tensors()))
    assert assert_same(checkpoint.mimi_tensors(), weights.mimi) == names
    text = dict(checkpoint.language_model_tensors()).pop("text_emb.weight")
    bos_row = weights.config.audio_card + 1 - 6  # counted from the end of the joined table
    expected["text_emb.weight"] = torch.cat(
        [expected["text_emb.weight"], expected["emb.4.weight"][bos_row, None]]
    )
    assert torch.equal(text, expected["text_emb.weight"])
    assert assert_same(checkpoint.language_model_tensors(), expected) == set(expected)


OTHER_NAMES = {
    "modules": {
        "codec_model.encoder.layers.": "codec_model.encoder.encoder_seanet.layers.",
        "codec_model.encoder_transformer.": "codec_model.encoder.encoder_transformer.",
        "codec_model.downsample.": "codec_model.encoder.downsample.",
        "codec_model.decoder.layers.": "codec_model.decoder.decoder_seanet.layers.",
    },
    "old codebooks": {"cluster_usage": "cluster_size", "embed_sum": "embed_avg"},
    "older codebooks": {"initialized": "inited", "cluster_usage": "cluster_size"},
}


@pytest.mark.parametrize("style", OTHER_NAMES)
def test_other_names_of_the_codec_are_understood(tmp_path, style):
    weights = random_weights()
    directory = write_transformers(tmp_path, weights)
    renamed = {}
    for name, tensor in transformers_tensors(weights).items():
        for ours, theirs in OTHER_NAMES[style].items():
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    save_file(renamed, directory / "model.safetensors")
    checkpoint = open_checkpoint(str(directory))
    names = set(dict(checkpoint.mimi_tensors()))
    assert assert_same(checkpoint.mimi_tensors(), weights.mimi) == names


def test_a_file_may_be_split(tmp_path):
    weights = random_weights()
    directory = write_transformers(tmp_path, weights)
    tensors = sorted(transformers_tensors(weights).items())
    (directory / "model.safetensors").unlink()
    places = {}
    for shard, part in enumerate((tensors[:100], tensors[100:])):
        save_file(dict(part), directory / f"model-{shard}.safetensors")
        places |= {name: f"model-{shard}.safetensors" for name, _ in part}
    write_json(directory / "model.safetensors.index.json", {"weight_map": places})
    checkpoint = open_checkpoint(str(directory))
    assert len(dict(checkpoint.language_model_tensors())) == len(weights.language_model)


@pytest.mark.parametrize(
    "theta", [{"rope_theta": 5e4}, {"rope_theta": None, "rope_parameters": {"rope_theta": 5e4}}]
)
def test_the_rotation_is_read_from_either_place(tmp_path, theta):
    directory = write_transformers(tmp_path, random_weights(), **theta)
    config = open_checkpoint(str(directory)).config
    assert config.language_model.rope_max_period == 5e4
    assert config.language_model.context == random_weights().config.context


def test_a_missing_rope_theta_is_that_of_the_old_files(tmp_path):
    directory = write_transformers(tmp_path, random_weights(), rope_theta=None)
    assert open_checkpoint(str(directory)).config.language_model.rope_max_period == 1e5


@pytest.mark.parametrize("bos", ["text row", "trained"])
def test_the_first_text_may_be_any_row(tmp_path, bos):
    weights = random_weights()
    directory = write_transformers(tmp_path, weights, bos_token_id=17)
    start_token = "bos" if bos == "text row" else "text_card"
    checkpoint = open_model(ModelConfig(checkpoint=str(directory), start_token=start_token))
    config = checkpoint.config.language_model
    assert config.text_start_id == (17 if bos == "text row" else config.text_card)
    assert config.num_text_rows == weights.config.num_text_rows


@pytest.mark.parametrize("extra_heads", [0, 4])
def test_mlx_files_give_back_every_native_tensor(tmp_path, extra_heads):
    weights = random_weights(extra_heads)
    checkpoint = open_checkpoint(str(write_mlx(tmp_path, weights)))
    assert assert_same(checkpoint.language_model_tensors(), weights.language_model) == set(
        weights.language_model
    )


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, 64)])
def test_mlx_quantized_files_are_within_half_a_step(tmp_path, bits, group):
    weights = random_weights(4)
    checkpoint = open_checkpoint(str(write_mlx(tmp_path, weights, bits)))

    def half_a_step(tensor):
        if tensor.dim() != 2 or tensor.shape[1] % group:
            return torch.zeros_like(tensor)
        groups = tensor.unflatten(1, (-1, group))
        step = (groups.amax(-1) - groups.amin(-1)) / (2**bits - 1)
        return (step / 2 + 1e-6).repeat_interleave(group, dim=1)

    found = checkpoint.language_model_tensors()
    assert assert_same(found, weights.language_model, half_a_step) == set(weights.language_model)


def test_bitsandbytes_files_are_within_half_a_step(tmp_path):
    weights = random_weights(4)
    checkpoint = open_checkpoint(str(write_bitsandbytes(tmp_path, weights)))

    def half_a_step(tensor):
        if tensor.dim() != 2 or len(tensor) == weights.config.num_text_rows:
            return torch.zeros_like(tensor)
        return (tensor.abs().amax(1) / 127 / 2 + 1e-6)[:, None].expand_as(tensor)

    found = checkpoint.language_model_tensors()
    assert assert_same(found, weights.language_model, half_a_step) == set(weights.language_model)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_gguf_files_give_what_the_gguf_package_reads(tmp_path, kind):
    weights = random_weights(4)
    directory = write_gguf(tmp_path, weights, kind)
    reader = gguf.GGUFReader(directory / "model.gguf")
    expected = {
        tensor.name: torch.from_numpy(
            gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()
        )
        for tensor in reader.tensors
    }
    assert kind in {tensor.tensor_type.name for tensor in reader.tensors}
    found = dict(open_checkpoint(str(directory)).language_model_tensors())
    assert assert_same(found.items(), expected) == set(weights.language_model)


def test_a_file_of_crispasr_gives_back_every_native_tensor(tmp_path):
    """Codebooks come divided by their usage, which changes nothing that is computed."""
    weights = random_weights()
    checkpoint = open_checkpoint(str(write_crispasr(tmp_path, weights)))
    names = assert_same(checkpoint.language_model_tensors(), weights.language_model)
    assert names == set(weights.language_model)
    found = dict(checkpoint.mimi_tensors())
    for name, tensor in found.items():
        stem = name.removesuffix("embedding_sum").removesuffix("cluster_usage")
        if "_codebook." not in name:
            assert torch.equal(tensor, weights.mimi[name]), name
        elif name.endswith("embedding_sum"):
            ours = tensor / found[f"{stem}cluster_usage"].clamp_min(1e-5)[:, None]
            usage = weights.mimi[f"{stem}cluster_usage"].clamp_min(1e-5)
            torch.testing.assert_close(ours, weights.mimi[name] / usage[:, None])


def test_an_adapter_is_merged_as_the_reference_does(tmp_path):
    weights = random_weights(4)
    directory = write_native(
        tmp_path, weights, lora=True, lora_name="lora.safetensors", lora_rank=4
    )
    merged, adapter = reference_adapter(weights)
    save_file(adapter, directory / "lora.safetensors")
    found = dict(open_checkpoint(str(directory)).language_model_tensors())
    assert set(found) == set(merged)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, merged[name], msg=name, rtol=0, atol=1e-6)
    assert not torch.equal(
        found["text_linear.weight"], weights.language_model["text_linear.weight"]
    )


def reference_adapter(weights):
    """The reference's own merge of random adapters for every linear layer."""
    from moshi.modules.lora import replace_all_linear_with_lora, replace_lora_with_linear

    model = reference.random_moshi_language_model(weights.config, seed=1)
    replace_all_linear_with_lora(model, rank=4, scaling=2.0)
    adapter = {
        name: torch.randn_like(parameter) * 0.1
        for name, parameter in model.state_dict().items()
        if "lora" in name
    }
    model.load_state_dict(adapter, strict=False)
    replace_lora_with_linear(model)
    return dict(reference.native(model.state_dict())), adapter


@pytest.mark.parametrize("layout", ["transformers", "mlx", "gguf"])
def test_every_layout_outputs_the_tokens_of_the_native_one(tmp_path, layout):
    write = {"transformers": write_transformers, "mlx": write_mlx, "gguf": write_gguf_fp32}[layout]
    weights = random_weights()
    native = write_native(tmp_path / "native", weights)
    other = write(tmp_path / "other", weights)
    model = ModelConfig(checkpoint=str(other), start_token="text_card")
    samples_SN = sound(num_frames=12)
    expected = loaded(open_checkpoint(str(native))).transcribe(samples_SN).tokens_SF
    found = loaded(open_model(model)).transcribe(samples_SN).tokens_SF
    assert torch.equal(found, expected)
    assert len(expected.unique()) > 3


def write_gguf_fp32(directory, weights):
    return write_gguf(directory, weights, "F32")


def loaded(checkpoint):
    return SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        "cpu",
        torch.float32,
    )


def sound(num_frames):
    noise = np.random.default_rng(0).normal(size=(1, num_frames * 1920))
    return (noise * 3000).astype(np.int16)
