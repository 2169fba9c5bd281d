"""The model that is trained: opened with new pieces and LoRA, and written as a checkpoint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nightscribe.model.checkpoints.open import Checkpoint
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.native_tensors import read
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.tokenizer import SentencePieceTokenizer
from nightscribe.training import vocabulary
from nightscribe.training.export import export_checkpoint
from nightscribe.training.lora import AdapterConfig, add_lora, merge_lora, train_rows
from nightscribe.training.train_state import TrainState


@dataclass(frozen=True, slots=True)
class TrainableModel:
    """A model in fp32 with its SentencePiece model."""

    model: SpeechToText
    tokenizer_model: bytes

    @property
    def tokenizer(self) -> Any:
        return vocabulary.processor(self.tokenizer_model)

    def write(self, folder: Path, state: TrainState) -> None:
        """Write the averaged weights as a checkpoint, with LoRA merged; ends the training."""
        state.swap_averages()
        merge_lora(self.model.language_model)
        export_checkpoint(
            folder,
            self.model.config,
            read(self.model.language_model.native_tensors()),
            read(self.model.mimi.native_tensors()),
            self.tokenizer_model,
        )


def open_trainable(
    checkpoint: Checkpoint, pieces: Sequence[str], adapter: AdapterConfig, device: torch.device
) -> TrainableModel:
    """Load a checkpoint for training, with new pieces in its vocabulary and LoRA if configured."""
    if not isinstance(checkpoint.tokenizer, SentencePieceTokenizer):
        raise ValueError(f"{checkpoint.name} has no SentencePiece model, which training needs")
    tokenizer_model = checkpoint.tokenizer.serialized()
    config = _extended(checkpoint.config, len(pieces))
    tensors = _extended_tensors(checkpoint, tokenizer_model, pieces)
    model = SpeechToText.load(config, checkpoint.mimi_tensors(), tensors, device, torch.float32)
    model.language_model.train().requires_grad_(True)
    if adapter.rank:
        add_lora(model.language_model, adapter.rank, adapter.scaling)
        _train_pieces(model, len(pieces))
    return TrainableModel(model, vocabulary.extended_tokenizer(tokenizer_model, pieces))


def _extended(config: SpeechToTextConfig, num_pieces: int) -> SpeechToTextConfig:
    language_model = vocabulary.extended_config(config.language_model, num_pieces)
    return replace(config, language_model=language_model)


def _extended_tensors(
    checkpoint: Checkpoint, tokenizer_model: bytes, pieces: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    spelled = vocabulary.spellings(tokenizer_model, pieces)
    old = checkpoint.config.language_model
    for name, tensor in checkpoint.language_model_tensors():
        yield name, vocabulary.extended_tensor(name, tensor, old, spelled)


def _train_pieces(model: SpeechToText, num_pieces: int) -> None:
    """With LoRA, the rows of new pieces are trained too, but not the start row after them."""
    if not num_pieces:
        return
    language_model = model.language_model
    text_card, first_row = language_model.config.text_card, language_model.embedding.first_text_row
    table_rows = slice(first_row + text_card - num_pieces, first_row + text_card)
    train_rows(language_model.embedding.table, table_rows)
    train_rows(language_model.text_head, slice(text_card - num_pieces, text_card))
