"""The published files' tensor counts and sizes follow from our tables of names and shapes."""

import json
from dataclasses import replace
from math import prod

import pytest

from nightscribe.model.checkpoints.native_config import PUBLISHED_MIMI, language_model_config
from nightscribe.model.checkpoints.opened import language_model_shapes, mimi_shapes
from nightscribe.model.checkpoints.settings import Settings
from tests.model import reference

ONE_B = {
    "card": 2048,
    "n_q": 32,
    "dim": 2048,
    "num_heads": 16,
    "num_layers": 16,
    "hidden_scale": 4.125,
    "text_card": 8000,
    "context": 750,
    "max_period": 100000,
}
CANDLE = ONE_B | {"extra_heads_num_heads": 4, "extra_heads_dim": 6}
TWO_B = ONE_B | {"num_heads": 32, "num_layers": 48, "text_card": 4000, "context": 375}


def file_size(shapes, type_name, num_bytes):
    """Of a safetensors file: 8 bytes, the header padded to a multiple of 8, the numbers."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + prod(shape) * num_bytes
        header[name] = {"dtype": type_name, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + offset


@pytest.mark.parametrize(
    ("settings", "num_tensors", "num_values", "size_bytes"),
    [
        (ONE_B, 131, 989_204_480, 1_978_423_520),
        (CANDLE, 135, 989_253_632, 1_978_522_200),
        (TWO_B, 323, 2_617_118_720, 5_234_275_128),
    ],
    ids=["1b", "1b-candle", "2.6b"],
)
def test_language_model_files_are_as_published(settings, num_tensors, num_values, size_bytes):
    shapes = language_model_shapes(language_model_config(Settings(settings, "config.json")))
    assert len(shapes) == num_tensors
    assert sum(map(prod, shapes.values())) == num_values
    assert file_size(by_name(shapes), "BF16", 2) == size_bytes


def by_name(shapes):
    return dict(sorted(shapes.items()))


def test_the_codec_file_is_as_published():
    """Our encoder side and what the reference has for speaking make up the whole file."""
    ours = mimi_shapes(PUBLISHED_MIMI)
    theirs = {
        name: tuple(tensor.shape)
        for name, tensor in reference.native(meta_moshi_mimi().state_dict())
    }
    assert ours.items() <= theirs.items()
    assert len(theirs) == 318
    assert sum(map(prod, theirs.values())) == 96_151_393
    assert file_size(by_name(theirs), "F32", 4) == 384_644_900


def meta_moshi_mimi():
    import torch
    from moshi.models import loaders

    with torch.device("meta"):
        return loaders.get_mimi(None, device="meta", num_codebooks=PUBLISHED_MIMI.num_codebooks)


def test_fewer_codebooks_need_fewer_tensors():
    config = language_model_config(Settings(ONE_B, "config.json"))
    assert len(language_model_shapes(replace(config, num_codebooks=20))) == 131 - 12
