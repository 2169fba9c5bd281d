"""Text-to-speech checkpoints: published names and sizes, and one sentence for what is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from nightscribe.model.checkpoints.native_config import PUBLISHED_MIMI
from nightscribe.model.checkpoints.settings import CheckpointError, Settings
from nightscribe.model.checkpoints.text_to_speech import (
    open_speech_checkpoint,
    read_voice,
    text_to_speech_config,
)
from nightscribe.model.tts.backbone import Backbone
from nightscribe.model.tts.conditioning import Conditions
from nightscribe.model.tts.depth_transformer import DepthTransformer
from tests.speech.checkpoints import CROSS, model_tensors, write_speech_checkpoint, write_voice

SCHEDULE_1_6B = [*range(8), *[8] * 8, *[9] * 8, *[10] * 8]
PUBLISHED_1_6B = {
    "card": 2048,
    "n_q": 32,
    "dep_q": 32,
    "delays": [0, 0, *[2] * 31],
    "dim": 2048,
    "num_heads": 16,
    "num_layers": 16,
    "hidden_scale": 4.125,
    "context": 500,
    "max_period": 10000,
    "text_card": 8000,
    "norm": "rms_norm_f32",
    "gating": "silu",
    "positional_embedding": "rope",
    "causal": True,
    "layer_scale": None,
    "cross_attention": True,
    "demux_second_stream": True,
    "existing_text_padding_id": 3,
    "depformer_dim": 1024,
    "depformer_num_heads": 16,
    "depformer_num_layers": 4,
    "depformer_dim_feedforward": 3072,
    "depformer_multi_linear": True,
    "depformer_weights_per_step": True,
    "depformer_pos_emb": "none",
    "depformer_low_rank_embeddings": 128,
    "depformer_weights_per_step_schedule": SCHEDULE_1_6B,
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
        "cfg": {
            "type": "lut",
            "lut": {
                "n_bins": 7,
                "dim": 16,
                "tokenizer": "noop",
                "possible_values": ["1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0"],
            },
        },
        "control": {
            "type": "lut",
            "lut": {"n_bins": 1, "dim": 2048, "tokenizer": "noop", "possible_values": ["ok"]},
        },
    },
    "fuser": {
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 1,
        "sum": ["control", "cfg"],
        "prepend": [],
        "cross": ["speaker_wavs"],
    },
    "tts_config": {"audio_delay": 1.28, "second_stream_ahead": 2},
    "model_id": {"sig": "1e68beda", "epoch": 240},
    "model_type": "tts",
}
DEAD_LOW_RANK = 128 * 1024  # stored, and used by nothing


def test_the_published_1_6b_model_has_these_tensors_and_numbers(tmp_path):
    config = text_to_speech_config(Settings(PUBLISHED_1_6B, tmp_path), PUBLISHED_MIMI)
    with torch.device("meta"):
        parts = Backbone(config), DepthTransformer(config), Conditions(config)
    shapes = [place.view.numel() for part in parts for _, place in part.native_tensors()]
    assert len(shapes) + 1 == 418
    assert sum(shapes) + DEAD_LOW_RANK == 1_836_550_272
    assert config.voice_suffix == ".1e68beda@240.safetensors"
    assert config.audio_delay_steps == 16


def test_weights_may_be_stored_one_tensor_for_each_set(tmp_path):
    """As the reference has them in memory."""
    stacked, apart = (write_speech_checkpoint(tmp_path / name) for name in ("stacked", "apart"))
    tensors = load_file(apart / "tts.safetensors")
    num_sets = CROSS.depth.num_weight_sets
    for name in [
        name for name in tensors if name.startswith("depformer.layers") and "_proj" in name
    ]:
        stem = name.replace("in_proj_weight", "in_projs").replace("out_proj.weight", "out_projs")
        for index, part in enumerate(tensors.pop(name).chunk(num_sets)):
            tensors[f"{stem}.{index}.weight"] = part.contiguous()
    save_file(tensors, apart / "tts.safetensors")
    for (name, one), (_, other) in zip(
        open_speech_checkpoint(str(stacked)).model_tensors(),
        open_speech_checkpoint(str(apart)).model_tensors(),
        strict=True,
    ):
        assert torch.equal(one, other), name


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model_type": "stt"}, "is not a text-to-speech model"),
        ({"delays": [0, 0, 2]}, "'delays' is .* expected 0 for the text and 5 delays"),
        ({"depformer_weights_per_step_schedule": [0, 1]}, "expected a list of 5 whole numbers"),
        ({"dep_q": 3}, "'dep_q' is 3, expected 5"),
        ({"depformer_pos_emb": "sin"}, "'depformer_pos_emb' is \"sin\""),
        ({"tts_config": {"audio_delay": 0.4, "multistream": True}}, "multistream"),
        ({"fuser": {"sum": [], "cross": ["speaker_wavs"]}}, "the fuser, which lacks cfg"),
        ({"num_layers": 4}, "has no tensor"),
        ({"num_layers": 2}, "does not belong to the model"),
    ],
)
def test_a_config_of_another_architecture_is_one_sentence(tmp_path, values, sentence):
    folder = write_speech_checkpoint(tmp_path / "model")
    change(folder, **values)
    with pytest.raises(CheckpointError, match=sentence):
        open_speech_checkpoint(str(folder))


def test_the_unused_projection_of_published_files_is_tolerated(tmp_path):
    folder = write_speech_checkpoint(tmp_path / "model")
    dead = {"depformer_text_emb.low_rank.weight": torch.zeros(32, 8)}
    save_file(model_tensors(CROSS) | dead, folder / "tts.safetensors")
    names = [name for name, _ in open_speech_checkpoint(str(folder)).model_tensors()]
    assert set(names) == set(model_tensors(CROSS))


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"speaker_wavs": torch.zeros(1, 3, 7)}, r"has shape \[1, 3, 7\], not \[1, 12, any\]"),
        ({"speaker_wavs": torch.full((1, 12, 7), torch.nan)}, "not finite"),
        ({"other": torch.zeros(1, 12, 7)}, "must hold one tensor"),
    ],
)
def test_a_file_that_is_no_voice_is_one_sentence(tmp_path, tensors, sentence):
    path = tmp_path / "voice.safetensors"
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=sentence):
        read_voice(path, CROSS)


def test_a_voice_is_read_as_stored(tmp_path):
    path = write_voice(tmp_path, "ann", 4)
    assert torch.equal(read_voice(path, CROSS), load_file(path)["speaker_wavs"][0])
