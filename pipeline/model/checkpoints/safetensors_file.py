"""Safetensors files, read one tensor at a time."""

from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.stored import StoredTensor

FLOAT_TYPES = ("F64", "F32", "F16", "BF16")


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """What the header lists; raises if the file is cut short."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: _stored(path, name, file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({path.stat().st_size} bytes): {reason}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from None


def _stored(path: Path, name: str, header: Any) -> StoredTensor:
    is_float = header.get_dtype() in FLOAT_TYPES
    shape = tuple(header.get_shape())
    return StoredTensor(name, path, shape, is_float, partial(_read_rows, path, name))


def _read_rows(path: Path, name: str, first: int, end: int) -> Tensor:
    # The file is mapped anew for each tensor: pages of a lasting map would count as our memory.
    with safe_open(path, framework="pt") as file:
        return file.get_slice(name)[first:end]
