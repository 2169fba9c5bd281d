"""Opens a checkpoint of any layout, on disk or on the hub, as native tensors."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from nightscribe.model.checkpoints.locations import Location, Repository, fetch, locate
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native import open_native
from nightscribe.model.checkpoints.opened import (
    OpenedCheckpoint,
    language_model_shapes,
    mimi_shapes,
)
from nightscribe.model.checkpoints.settings import CheckpointError, Settings
from nightscribe.model.checkpoints.stored_tensors import Read, Shape
from nightscribe.model.checkpoints.transformers import MODEL_TYPE, open_transformers
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.tokenizer import Tokenizer, open_tokenizer

CONFIG = "config.json"
NUM_SAMPLED_BLOCKS = 256
BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model ready to be loaded: its tensors are read one at a time, on demand."""

    name: str
    revision: str
    config: SpeechToTextConfig
    tokenizer: Tokenizer
    language_model: Mapping[str, Read]
    mimi: Mapping[str, Read]

    def language_model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Native tensors of the language model, of the codebooks that are used."""
        return ((name, read()) for name, read in self.language_model.items())

    def mimi_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Native tensors of Mimi's encoder side."""
        return ((name, read()) for name, read in self.mimi.items())


def open_checkpoint(location: str) -> Checkpoint:
    """Open a folder, a file or a hub repository; raises CheckpointError with one sentence."""
    return open_model(ModelConfig(checkpoint=location))


def open_model(model: ModelConfig) -> Checkpoint:
    """Open a checkpoint; `model` sets what its files do not."""
    location, file_name = locate(model.checkpoint)
    if file_name is not None:
        model = replace(model, weights=model.weights or file_name)
    if isinstance(location, Repository):
        location = location.pinned(CONFIG)
    opened = _open(location, model)
    config = _with_codebooks(opened.config, model.num_codebooks)
    return Checkpoint(
        name=location.name,
        revision=location.commit or fingerprint(opened.files),
        config=config,
        tokenizer=_tokenizer(opened),
        language_model=_chosen(opened.language_model, language_model_shapes(config.language_model)),
        mimi=_chosen(opened.mimi, mimi_shapes(config.mimi)),
    )


def _open(location: Location, model: ModelConfig) -> OpenedCheckpoint:
    settings = Settings.read(fetch(location, CONFIG))
    if settings.text("model_type", "stt") == MODEL_TYPE:
        return open_transformers(location, settings, model)
    return open_native(location, settings, model)


def _with_codebooks(config: SpeechToTextConfig, num_codebooks: int | None) -> SpeechToTextConfig:
    """The config with only the first `num_codebooks`; None: all that the checkpoint has."""
    most = min(config.language_model.num_codebooks, config.mimi.num_codebooks)
    num_used = config.language_model.num_codebooks if num_codebooks is None else num_codebooks
    if not 2 <= num_used <= most:
        raise CheckpointError(
            f"model.num_codebooks must be from 2 to {most} for this checkpoint, not {num_used}"
        )
    return replace(
        config,
        language_model=replace(config.language_model, num_codebooks=num_used),
        mimi=replace(config.mimi, num_codebooks=num_used),
    )


def _chosen(reads: Mapping[str, Read], shapes: Mapping[str, Shape]) -> dict[str, Read]:
    return {name: reads[name] for name in shapes}


def _tokenizer(opened: OpenedCheckpoint) -> Tokenizer:
    tokenizer = open_tokenizer(opened.tokenizer)
    text_card = opened.config.language_model.text_card
    if tokenizer.num_tokens < text_card:
        raise CheckpointError(
            f"{opened.tokenizer} has {tokenizer.num_tokens} tokens, the model has {text_card}"
        )
    return tokenizer


def fingerprint(paths: Iterable[Path]) -> str:
    """A hash of local files that reads only their sizes and blocks spread over each file."""
    digest = hashlib.sha256()
    for path in paths:
        size_bytes = path.stat().st_size
        digest.update(f"{path.name}:{size_bytes}\n".encode())
        with path.open("rb") as file:
            for start in _block_starts(size_bytes):
                file.seek(start)
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:40]


def _block_starts(size_bytes: int) -> Iterable[int]:
    stride = max(BLOCK_BYTES, size_bytes // NUM_SAMPLED_BLOCKS)
    return range(0, size_bytes, stride)
