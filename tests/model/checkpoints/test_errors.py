"""Every error of a checkpoint is one sentence that names what is wrong."""

import json
import re
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file

from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_checkpoint, open_model
from nightscribe.model.checkpoints.settings import CheckpointError
from tests.model.checkpoints.layouts import write_gguf
from tests.model.checkpoints.weights import random_weights, write_native


@pytest.fixture
def directory(tmp_path):
    return write_native(tmp_path / "model", random_weights())


def refusal(location, **options):
    with pytest.raises(CheckpointError) as caught:
        open_model(ModelConfig(checkpoint=str(location), **options))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def change_config(directory, **changes):
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: v for key, v in values.items() if v != "absent"}))


def change_weights(directory, change, name="model.safetensors"):
    tensors = load_file(directory / name)
    change(tensors)
    save_file(tensors, directory / name)


@pytest.mark.parametrize("file_name", ["model.safetensors", "mimi.safetensors"])
def test_a_missing_tensor_is_named_with_its_file_and_shape(directory, file_name):
    name, shape = {
        "model.safetensors": ("emb.2.weight", [65, 64]),
        "mimi.safetensors": ("downsample.conv.conv.conv.weight", [32, 32, 4]),
    }[file_name]
    change_weights(directory, lambda tensors: tensors.pop(name), file_name)
    assert refusal(directory) == f"{directory / file_name} has no tensor {name!r} of shape {shape}"


@pytest.mark.parametrize("file_name", ["model.safetensors", "mimi.safetensors"])
def test_a_surplus_tensor_is_named(directory, file_name):
    change_weights(directory, lambda t: t.update({"extra.weight": torch.zeros(2)}), file_name)
    sentence = refusal(directory)
    assert str(directory / file_name) in sentence
    assert "'extra.weight' of shape [2]" in sentence


def test_two_names_for_one_tensor_are_refused(directory):
    change_weights(directory, lambda t: t.update({"out_norm.weight": torch.ones(64)}))
    assert "'out_norm.alpha' and 'out_norm.weight' are the same tensor" in refusal(directory)


def test_a_misshapen_tensor_is_named_with_both_shapes(directory):
    change_weights(directory, lambda t: t.update({"out_norm.alpha": torch.ones(1, 1, 63)}))
    assert re.search(
        r"model.safetensors: .*'out_norm.alpha' has shape \[1, 1, 63\], expected \[1, 1, 64\]",
        refusal(directory),
    )


def test_integers_are_not_taken_for_weights(directory):
    change_weights(
        directory, lambda t: t.update({"out_norm.alpha": torch.ones(1, 1, 64, dtype=torch.int8)})
    )
    assert "'out_norm.alpha' holds integers" in refusal(directory)


@pytest.mark.parametrize("num_left", [0, 5, 1000, -1])
@pytest.mark.parametrize("file_name", ["model.safetensors", "mimi.safetensors"])
def test_a_truncated_file_is_named(directory, file_name, num_left):
    path = directory / file_name
    path.write_bytes(path.read_bytes()[:num_left])
    assert f"{path} is not a complete safetensors file" in refusal(directory)


@pytest.mark.parametrize("num_left", [2, 20, 500, -100])
def test_a_truncated_gguf_file_is_named(tmp_path, num_left):
    directory = write_gguf(tmp_path, random_weights(), "Q8_0")
    path = directory / "model.gguf"
    path.write_bytes(path.read_bytes()[:num_left])
    assert str(path) in refusal(directory)


def test_a_broken_gguf_header_is_an_error_of_ours_or_none(tmp_path):
    directory = write_gguf(tmp_path, random_weights(), "F16")
    path = directory / "model.gguf"
    whole = path.read_bytes()
    for place in range(0, 4000, 211):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        # A broken value of no consequence may pass.
        with suppress(CheckpointError):
            open_checkpoint(str(directory))


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "model.ckpt", "model.pth"])
def test_a_pickle_is_never_opened(directory, name):
    (directory / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    change_config(directory, moshi_name=name)
    assert f"{name} is a pickle" in refusal(directory)
    assert f"{name} is a pickle" in refusal(directory / name)


def test_a_pickle_under_another_name_is_not_opened_either(directory):
    torch.save({"a": torch.zeros(2)}, directory / "model.safetensors")
    assert "not a complete safetensors file" in refusal(directory)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("dim", "absent", "has no 'dim'"),
        ("dim", "2048", "'dim' is \"2048\", expected a whole number above 0"),
        ("num_heads", 5, "'num_heads' is 5, expected a number that divides 64"),
        ("context", None, "has no 'context'"),
        ("max_period", -1, "'max_period' is -1, expected a number above 0"),
        ("norm", "layer_norm", '\'norm\' is "layer_norm", expected "rms_norm_f32"'),
        ("dep_q", 8, "'dep_q' is 8, expected 0"),
        ("delays", [0, 1, 1, 1, 1], "'delays' is [0, 1, 1, 1, 1], expected"),
        ("model_type", "tts", "'model_type' is \"tts\", expected"),
        ("stt_config", [], None),
        ("stt_config", {"audio_delay_seconds": "long"}, "'stt_config.audio_delay_seconds'"),
        ("stt_config", {}, "does not set 'audio_delay_seconds': set model.delay_steps"),
        ("mimi_name", "absent", "has no 'mimi_name'"),
        ("mimi_name", "nowhere.safetensors", "has no file 'nowhere.safetensors'"),
        ("num_layers", 4, "has no tensor 'transformer.layers.3."),
        ("num_layers", 2, "'transformer.layers.2."),
        ("card", 32, "the codec has 64 entries a codebook, the language model takes 32"),
        ("text_card", 299, "has shape [301, 64], expected [300, 64]"),
    ],
)
def test_a_wrong_config_value_is_named(directory, key, value, sentence):
    change_config(directory, **{key: value})
    assert (sentence or "audio_delay_seconds") in refusal(directory)


def test_a_config_that_is_no_json_is_named(directory):
    (directory / "config.json").write_text("{'dim': 3}")
    assert f"{directory / 'config.json'} cannot be read as JSON" in refusal(directory)


def test_a_folder_without_config_is_named(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path} has no file 'config.json'"


def test_a_location_that_is_nothing_is_named():
    assert "'./nowhere' is neither a folder nor a file here nor a hub" in refusal("./nowhere")


def test_too_many_codebooks_are_refused(directory):
    assert "model.num_codebooks must be from 2 to 5 for this checkpoint, not 6" in refusal(
        directory, num_codebooks=6
    )


def test_a_tokenizer_for_another_model_is_refused(directory):
    (directory / "tokenizer.model").write_bytes(b"not a tokenizer")
    with pytest.raises(ValueError, match=r"tokenizer\.model is not a tokenizer"):
        open_checkpoint(str(directory))
