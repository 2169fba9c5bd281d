"""The model that learns: opened from a checkpoint, enlarged and adapted, and written back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nightscribe.model.checkpoints.open import Checkpoint
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.native import read
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.tokenizer import SentencePieceTokenizer
from nightscribe.options import check_options, option
from nightscribe.training import lora, vocabulary
from nightscribe.training.export import export_checkpoint
from nightscribe.training.learner import Learner


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """Low-rank adapters."""

    rank: int = option(0, "rank of the LoRA adapters; 0: train all weights", minimum=0, common=True)
    scaling: float = option(2.0, "scaling of the adapters")

    def __post_init__(self) -> None:
        check_options(self, "adapter")


@dataclass(frozen=True, slots=True)
class Student:
    """A model in fp32 that learns, and the SentencePiece model that it writes with."""

    model: SpeechToText
    tokenizer_model: bytes

    @property
    def tokenizer(self) -> Any:
        return vocabulary.processor(self.tokenizer_model)

    def write(self, folder: Path, learner: Learner) -> None:
        """Write the averaged weights as a checkpoint, adapters merged, and end the learning."""
        learner.swap_averages()
        lora.merge(self.model.language_model)
        export_checkpoint(
            folder,
            self.model.config,
            read(self.model.language_model.native_tensors()),
            read(self.model.mimi.native_tensors()),
            self.tokenizer_model,
        )


def open_student(
    checkpoint: Checkpoint, pieces: Sequence[str], adapter: AdapterConfig, device: torch.device
) -> Student:
    """Load a checkpoint for training, with new pieces in its vocabulary and adapters if asked."""
    if not isinstance(checkpoint.tokenizer, SentencePieceTokenizer):
        raise ValueError(f"{checkpoint.name} has no SentencePiece model, which training needs")
    tokenizer_model = checkpoint.tokenizer.serialized()
    config = _enlarged(checkpoint.config, len(pieces))
    tensors = _enlarged_tensors(checkpoint, tokenizer_model, pieces)
    model = SpeechToText.load(config, checkpoint.mimi_tensors(), tensors, device, torch.float32)
    model.language_model.train().requires_grad_(True)
    if adapter.rank:
        lora.adapt(model.language_model, adapter.rank, adapter.scaling)
        _learn_pieces(model, len(pieces))
    return Student(model, vocabulary.extended_tokenizer(tokenizer_model, pieces))


def _enlarged(config: SpeechToTextConfig, num_pieces: int) -> SpeechToTextConfig:
    language_model = vocabulary.extended_config(config.language_model, num_pieces)
    return replace(config, language_model=language_model)


def _enlarged_tensors(
    checkpoint: Checkpoint, tokenizer_model: bytes, pieces: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    spelt = vocabulary.spellings(tokenizer_model, pieces)
    old = checkpoint.config.language_model
    for name, tensor in checkpoint.language_model_tensors():
        yield name, vocabulary.extended_tensor(name, tensor, old, spelt)


def _learn_pieces(model: SpeechToText, num_pieces: int) -> None:
    """Beside adapters, the rows of new pieces learn; the start row behind them does not."""
    if not num_pieces:
        return
    language_model = model.language_model
    text_card, first_row = language_model.config.text_card, language_model.embedding.first_text_row
    table_rows = slice(first_row + text_card - num_pieces, first_row + text_card)
    lora.learn_rows(language_model.embedding.table, table_rows)
    lora.learn_rows(language_model.text_head, slice(text_card - num_pieces, text_card))
