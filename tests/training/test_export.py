import torch

from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.native_tensors import read
from nightscribe.training.export import WEIGHTS_FILE, export_checkpoint, int8_rows
from tests.training.models import CONFIG, small_model, tokenizer_model


def written(folder, model, transform):
    export_checkpoint(
        folder,
        CONFIG,
        transform(read(model.language_model.native_tensors())),
        read(model.mimi.native_tensors()),
        tokenizer_model(),
    )
    return dict(open_checkpoint(str(folder)).language_model_tensors())


def test_a_checkpoint_with_int8_matrices_opens_as_nearly_the_same_model(tmp_path):
    model = small_model()
    opened = written(tmp_path, model, int8_rows)
    for name, tensor in read(model.language_model.native_tensors()):
        if name not in MATRICES:
            assert torch.equal(opened[name], tensor.bfloat16()), name
            continue
        steps_OI = (opened[name] - tensor).abs() / tensor.abs().amax(dim=1, keepdim=True) * 127
        assert 0.1 < steps_OI.max() < 0.8, name  # half a step, and what rounding its scale moves


def test_an_int8_matrix_takes_half_the_bytes(tmp_path):
    model = small_model()
    plain, small = tmp_path / "plain", tmp_path / "small"
    written(plain, model, lambda tensors: tensors)
    written(small, model, int8_rows)
    saved = (plain / WEIGHTS_FILE).stat().st_size - (small / WEIGHTS_FILE).stat().st_size
    tensors = dict(read(model.language_model.native_tensors()))
    assert saved > 0.6 * sum(tensors[name].numel() for name in MATRICES)


def test_others_may_read_the_weights(tmp_path):
    written(tmp_path, small_model(), int8_rows)
    weights = list(tmp_path.rglob("*.safetensors"))
    assert weights
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in weights)


def test_a_row_of_zeros_stays_zeros():
    name = "text_linear.weight"
    (_, integers), (_, largest) = int8_rows([(name, torch.zeros(2, 3))])
    assert not integers.any()
    assert (largest > 0).all()


MATRICES = (
    "text_linear.weight",
    *(
        f"transformer.layers.{layer}.{part}"
        for layer in range(CONFIG.language_model.num_layers)
        for part in (
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "gating.linear_in.weight",
            "gating.linear_out.weight",
        )
    ),
)
