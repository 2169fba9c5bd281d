"""Opens files of weights by their extension; never one that could execute code."""

from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nightscribe.model.checkpoints.gguf import open_gguf
from nightscribe.model.checkpoints.locations import Location, fetch
from nightscribe.model.checkpoints.settings import CheckpointError, Settings
from nightscribe.model.checkpoints.stored_tensors import StoredTensor, StoredTensors

FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".th")


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """What the header lists; raises if the file is truncated."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: _stored(path, name, file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({path.stat().st_size} bytes): {reason}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from None


def _stored(path: Path, name: str, header: Any) -> StoredTensor:
    is_float = header.get_dtype() in FLOAT_TYPES
    shape = tuple(header.get_shape())
    return StoredTensor(name, path, shape, is_float, partial(_read_rows, path, name))


def _read_rows(path: Path, name: str, first: int, end: int) -> Tensor:
    # Mapped anew for each tensor: pages of a lasting map would count as our memory.
    with safe_open(path, framework="pt") as file:
        return file.get_slice(name)[first:end]


OPENERS = {".safetensors": open_safetensors, ".sft": open_safetensors, ".gguf": open_gguf}


def open_weights(location: Location, file_name: str) -> tuple[StoredTensors, tuple[Path, ...]]:
    """The tensors of one file or of the shards it is split into, and the files."""
    suffix = Path(file_name).suffix
    if suffix in PICKLES:
        raise CheckpointError(
            f"{file_name} is a pickle, which can run code when it is opened: "
            f"convert it to safetensors"
        )
    if suffix not in OPENERS:
        raise CheckpointError(f"{file_name} is neither a safetensors nor a GGUF file")
    paths = _paths(location, file_name)
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        tensors |= OPENERS[suffix](path)
    return StoredTensors(tensors, paths[0]), paths


def _paths(location: Location, file_name: str) -> tuple[Path, ...]:
    index_name = f"{file_name}.index.json"
    if location.find(file_name) is None and (index := location.find(index_name)) is not None:
        return tuple(fetch(location, shard) for shard in Settings.read(index).texts("weight_map"))
    return (fetch(location, file_name),)
