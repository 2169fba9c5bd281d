"""Native checkpoints open as they are."""

import pytest
import torch

from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_checkpoint, open_model
from nightscribe.model.language_model import LanguageModel
from tests.model.checkpoints.weights import random_weights, write_native


@pytest.mark.parametrize("num_vad_heads", [0, 4])
def test_native_files_give_back_every_tensor_and_size(tmp_path, num_vad_heads):
    weights = random_weights(num_vad_heads)
    checkpoint = open_checkpoint(str(write_native(tmp_path / "small", weights)))
    assert checkpoint.config.mimi == weights.mimi_config
    assert checkpoint.config.language_model == weights.config
    assert (checkpoint.config.delay_s, checkpoint.config.silence_prefix_s) == (0.5, 1.0)
    tensors = dict(checkpoint.language_model_tensors())
    assert set(tensors) == set(weights.language_model)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, weights.language_model[name]), name
    for name, tensor in checkpoint.mimi_tensors():
        assert torch.equal(tensor, weights.mimi[name]), name
    assert checkpoint.name == "small"


def test_fewer_codebooks_leave_the_others_unread(tmp_path):
    directory = write_native(tmp_path, random_weights())
    checkpoint = open_model(ModelConfig(checkpoint=str(directory), num_codebooks=3))
    names = [name for name, _ in checkpoint.language_model_tensors()]
    assert "emb.2.weight" in names
    assert "emb.3.weight" not in names
    model = LanguageModel.load(
        checkpoint.config.language_model, checkpoint.language_model_tensors(), "cpu", torch.float32
    )
    assert model.config.num_codebooks == 3


def test_revision_tells_contents_apart(tmp_path):
    one = write_native(tmp_path / "one", random_weights())
    same = write_native(tmp_path / "same", random_weights())
    other = write_native(tmp_path / "other", random_weights(4))
    revisions = [open_checkpoint(str(path)).revision for path in (one, same, other)]
    assert revisions[0] == revisions[1] != revisions[2]
