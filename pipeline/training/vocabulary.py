"""New text pieces for a model: words or endings that its vocabulary lacks.

New pieces come after the old ones, so every old token keeps its id. Each starts as the mean of the
old pieces that spelled it. The start row of the text table stays the last one.

D width, V text tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
from torch import Tensor

from nightscribe.model.config import LanguageModelConfig
from nightscribe.storage.text_files import read_text

WORD_MARK = "\u2581"  # in a piece, stands for a space before it
TEXT_TABLE, TEXT_HEAD = "text_emb.weight", "text_linear.weight"


def processor(model: bytes) -> SentencePieceProcessor:
    """The processor of a serialised SentencePiece model."""
    return SentencePieceProcessor(model_proto=model)


def read_pieces(path: Path) -> list[str]:
    """One piece per line; a leading space marks the start of a word. Empty lines are skipped."""
    lines = read_text(path).splitlines()
    return [line.replace(" ", WORD_MARK) for line in lines if line.strip()]


def extended_tokenizer(model: bytes, pieces: Sequence[str]) -> bytes:
    """A SentencePiece model with these pieces added; it always uses them where they fit."""
    proto = ModelProto.FromString(model)
    known = {piece.piece for piece in proto.pieces}
    for piece in pieces:
        if piece in known or pieces.count(piece) > 1:
            raise ValueError(f"the vocabulary would have {piece.replace(WORD_MARK, ' ')!r} twice")
        proto.pieces.add(piece=piece, score=0.0, type=ModelProto.SentencePiece.Type.USER_DEFINED)
    return proto.SerializeToString()


def spellings(model: bytes, pieces: Sequence[str]) -> list[list[int]]:
    """The old tokens that spelled each new piece."""
    encode = processor(model).encode
    return [encode(piece.replace(WORD_MARK, " ")) for piece in pieces]


def extended_config(config: LanguageModelConfig, num_pieces: int) -> LanguageModelConfig:
    """The configuration of the larger model; the start row is last, as in native checkpoints."""
    text_card = config.text_card + num_pieces
    return replace(
        config, text_card=text_card, text_start_id=text_card, num_text_rows=text_card + 1
    )


def extended_tensor(
    name: str, tensor: Tensor, config: LanguageModelConfig, spelled: Sequence[Sequence[int]]
) -> Tensor:
    """A native tensor of the larger model, made from that of the smaller."""
    if name not in (TEXT_TABLE, TEXT_HEAD):
        return tensor
    old_VD = tensor[: config.text_card]
    if not spelled:
        return tensor
    means = [old_VD[list(tokens)].float().mean(dim=0) for tokens in spelled]
    new_VD = torch.stack(means).to(tensor.dtype)
    if name == TEXT_HEAD:
        return torch.cat((old_VD, new_VD))
    start_1D = tensor[config.text_start_id : config.text_start_id + 1]
    return torch.cat((old_VD, new_VD, start_1D))
