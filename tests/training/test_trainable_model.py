import pytest
import torch

from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.native_tensors import read
from nightscribe.training.export import export_checkpoint
from nightscribe.training.lora import AdapterConfig
from nightscribe.training.train_state import OptimizerConfig, TrainState
from nightscribe.training.trainable_model import open_trainable
from tests.training.models import CONFIG, small_model, tokenizer_model


@pytest.fixture
def folder(tmp_path):
    model = small_model()
    export_checkpoint(
        tmp_path / "model",
        CONFIG,
        read(model.language_model.native_tensors()),
        read(model.mimi.native_tensors()),
        tokenizer_model(),
        dtype=torch.float32,
    )
    return tmp_path / "model"


def student_of(folder, pieces=(), rank=0):
    checkpoint = open_checkpoint(str(folder))
    return open_trainable(checkpoint, pieces, AdapterConfig(rank=rank), torch.device("cpu"))


def test_an_exported_checkpoint_opens_as_the_same_model(folder):
    checkpoint, model = open_checkpoint(str(folder)), small_model()
    assert checkpoint.config == CONFIG
    stored = dict(checkpoint.language_model_tensors())
    for name, tensor in read(model.language_model.native_tensors()):
        assert torch.equal(stored[name], tensor), name


def test_a_trained_model_is_written_with_its_new_vocabulary_and_merged_lora(folder, tmp_path):
    trainable = student_of(folder, ["\u2581ward"], rank=2)
    state = TrainState(trainable.model.language_model, OptimizerConfig(), 1)
    for parameter in state.averages.values():
        parameter.add_(0.1)
    trainable.write(tmp_path / "taught", state)
    taught = open_checkpoint(str(tmp_path / "taught"))
    assert taught.config.language_model.text_card == CONFIG.language_model.text_card + 1
    assert taught.tokenizer.encode("ward") == [CONFIG.language_model.text_card]
    before = dict(open_checkpoint(str(folder)).language_model_tensors())
    name = "transformer.layers.0.self_attn.in_proj_weight"
    written = dict(taught.language_model_tensors())[name]
    assert (written - before[name]).abs().max() > 0.01  # far more than bf16 rounds


def test_with_lora_only_the_rows_of_new_pieces_are_trained_too(folder):
    language_model = student_of(folder, ["\u2581ward"], rank=2).model.language_model
    assert language_model.embedding.table.weight.requires_grad
    assert language_model.text_head.weight.requires_grad
    assert not language_model.norm.scale_D.requires_grad


def test_without_lora_all_weights_are_trained(folder):
    trainable = student_of(folder)
    assert all(p.requires_grad for p in trainable.model.language_model.parameters())
    assert not any(p.requires_grad for p in trainable.model.mimi.parameters())
