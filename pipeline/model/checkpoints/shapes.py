"""The native tensors that a config asks for, and their shapes."""

from collections.abc import Mapping

import torch

from nightscribe.model.checkpoints.stored import Shape
from nightscribe.model.config import LanguageModelConfig, MimiConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi
from nightscribe.model.native import NativeTensor


def language_model_shapes(config: LanguageModelConfig) -> dict[str, Shape]:
    with torch.device("meta"):
        return _shapes(LanguageModel(config).native_tensors())


def mimi_shapes(config: MimiConfig) -> dict[str, Shape]:
    """Mimi's encoder side; what serves speaking is not listed."""
    with torch.device("meta"):
        return _shapes(Mimi(config).native_tensors())


def _shapes(places: Mapping[str, NativeTensor]) -> dict[str, Shape]:
    return {name: tuple(place.shape) for name, place in places.items()}
