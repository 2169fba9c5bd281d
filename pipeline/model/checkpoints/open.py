"""Opens a checkpoint of any layout, on disk or on the hub, as native tensors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.fingerprint import fingerprint
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native import open_native
from nightscribe.model.checkpoints.opened import Opened
from nightscribe.model.checkpoints.places import Place, Repository, fetch, place_of
from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.checkpoints.shapes import language_model_shapes, mimi_shapes
from nightscribe.model.checkpoints.stored import Read, Shape
from nightscribe.model.checkpoints.transformers import MODEL_TYPE, open_transformers
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.tokenizer import Tokenizer, open_tokenizer

CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model ready to be loaded: its tensors are read one at a time, when they are asked for."""

    name: str
    revision: str
    config: SpeechToTextConfig
    tokenizer: Tokenizer
    language_model: Mapping[str, Read]
    mimi: Mapping[str, Read]

    def language_model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Native tensors of the language model, of the codebooks that are heard."""
        return ((name, read()) for name, read in self.language_model.items())

    def mimi_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Native tensors of Mimi's encoder side."""
        return ((name, read()) for name, read in self.mimi.items())


def open_checkpoint(location: str) -> Checkpoint:
    """Open a folder, a file or a hub repository; raises CheckpointError with one sentence."""
    return open_model(ModelConfig(checkpoint=location))


def open_model(model: ModelConfig) -> Checkpoint:
    """Open a checkpoint, with what its files leave unsaid taken from `model`."""
    place, file_name = place_of(model.checkpoint)
    if file_name is not None:
        model = replace(model, weights=model.weights or file_name)
    if isinstance(place, Repository):
        place = place.pinned(CONFIG)
    opened = _open(place, model)
    config = _heard(opened.config, model.num_codebooks)
    return Checkpoint(
        name=place.name,
        revision=place.commit or fingerprint(opened.files),
        config=config,
        tokenizer=_tokenizer(opened),
        language_model=_chosen(opened.language_model, language_model_shapes(config.language_model)),
        mimi=_chosen(opened.mimi, mimi_shapes(config.mimi)),
    )


def _open(place: Place, model: ModelConfig) -> Opened:
    settings = Settings.read(fetch(place, CONFIG))
    if settings.text("model_type", "stt") == MODEL_TYPE:
        return open_transformers(place, settings, model)
    return open_native(place, settings, model)


def _heard(config: SpeechToTextConfig, num_codebooks: int | None) -> SpeechToTextConfig:
    """The config with only the codebooks that are heard."""
    most = min(config.language_model.num_codebooks, config.mimi.num_codebooks)
    heard = config.language_model.num_codebooks if num_codebooks is None else num_codebooks
    if not 2 <= heard <= most:
        raise CheckpointError(f"{heard} codebooks cannot be heard: this checkpoint has {most}")
    return replace(
        config,
        language_model=replace(config.language_model, num_codebooks=heard),
        mimi=replace(config.mimi, num_codebooks=heard),
    )


def _chosen(reads: Mapping[str, Read], shapes: Mapping[str, Shape]) -> dict[str, Read]:
    return {name: reads[name] for name in shapes}


def _tokenizer(opened: Opened) -> Tokenizer:
    tokenizer = open_tokenizer(opened.tokenizer)
    text_card = opened.config.language_model.text_card
    if tokenizer.num_tokens < text_card:
        raise CheckpointError(
            f"{opened.tokenizer} has {tokenizer.num_tokens} tokens, the model says {text_card}"
        )
    return tokenizer
