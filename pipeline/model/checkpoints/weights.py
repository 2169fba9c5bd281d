"""Opens files of weights by their kind; never one that could execute code."""

from pathlib import Path

from pipeline.model.checkpoints.errors import CheckpointError
from pipeline.model.checkpoints.places import Place, fetch
from pipeline.model.checkpoints.safetensors_file import open_safetensors
from pipeline.model.checkpoints.stored import Inventory, StoredTensor

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".th")


def open_weights(place: Place, file_name: str) -> tuple[Inventory, list[Path]]:
    """The tensors of one file, and its path."""
    _refuse_pickle(file_name)
    path = fetch(place, file_name)
    return Inventory(_open(path), path), [path]


def _open(path: Path) -> dict[str, StoredTensor]:
    if path.suffix in SAFETENSORS:
        return open_safetensors(path)
    raise CheckpointError(f"{path} is neither a safetensors nor a GGUF file")


def _refuse_pickle(file_name: str) -> None:
    if Path(file_name).suffix in PICKLES:
        raise CheckpointError(
            f"{file_name} is a pickle, which can run code when it is opened; "
            f"convert it to safetensors"
        )
