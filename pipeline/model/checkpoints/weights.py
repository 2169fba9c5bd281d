"""Opens files of weights by their kind; never one that could execute code."""

from pathlib import Path

from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.gguf_file import open_gguf
from nightscribe.model.checkpoints.places import Place, fetch
from nightscribe.model.checkpoints.safetensors_file import open_safetensors
from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.checkpoints.stored import Inventory, StoredTensor

OPENERS = {".safetensors": open_safetensors, ".sft": open_safetensors, ".gguf": open_gguf}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".th")


def open_weights(place: Place, file_name: str) -> tuple[Inventory, tuple[Path, ...]]:
    """The tensors of one file or of the shards it is split into, and where they are."""
    suffix = Path(file_name).suffix
    if suffix in PICKLES:
        raise CheckpointError(
            f"{file_name} is a pickle, which can run code when it is opened: "
            f"convert it to safetensors"
        )
    if suffix not in OPENERS:
        raise CheckpointError(f"{file_name} is neither a safetensors nor a GGUF file")
    paths = _paths(place, file_name)
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        tensors |= OPENERS[suffix](path)
    return Inventory(tensors, paths[0]), paths


def _paths(place: Place, file_name: str) -> tuple[Path, ...]:
    index_name = f"{file_name}.index.json"
    if place.find(file_name) is None and (index := place.find(index_name)) is not None:
        return tuple(fetch(place, shard) for shard in Settings.read(index).texts("weight_map"))
    return (fetch(place, file_name),)
