"""Text tokens to text and back, from a SentencePiece model or a `tokenizer.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece
import tokenizers

WORD_MARK = "\u2581"  # how a piece says that a space stands before it


class Tokenizer(Protocol):
    """What is asked of either kind."""

    @property
    def num_tokens(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of these tokens; unknown and control tokens say nothing."""
        ...

    def begins_word(self, token: int) -> bool:
        """Whether a space stands before this token."""
        ...


class SentencePieceTokenizer:
    """A `.model` file."""

    def __init__(self, path: Path) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))

    @property
    def num_tokens(self) -> int:
        return self._processor.get_piece_size()

    def serialized(self) -> bytes:
        """The content of a `.model` file."""
        return self._processor.serialized_model_proto()

    def encode(self, text: str) -> list[int]:
        return self._processor.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        processor = self._processor
        said = [t for t in tokens if not processor.is_control(t) and not processor.is_unknown(t)]
        return processor.decode(said)

    def begins_word(self, token: int) -> bool:
        return self._processor.id_to_piece(token).startswith(WORD_MARK)


class JsonTokenizer:
    """A `tokenizer.json` file, made from a SentencePiece model."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        unknown = self._tokenizer.token_to_id("<unk>")
        self._silent = {} if unknown is None else {unknown}

    @property
    def num_tokens(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        said = [token for token in tokens if token not in self._silent]
        return self._tokenizer.decode(said, skip_special_tokens=True).removeprefix(" ")

    def begins_word(self, token: int) -> bool:
        piece = self._tokenizer.id_to_token(token)
        return piece is not None and piece.startswith(WORD_MARK)


def open_tokenizer(path: Path) -> Tokenizer:
    """Either kind, told by the file's name; raises ValueError if it cannot be read."""
    kind = JsonTokenizer if path.suffix == ".json" else SentencePieceTokenizer
    try:
        return kind(path)
    # The libraries raise RuntimeError, OSError and bare Exception for files they cannot read.
    except Exception as error:
        raise ValueError(f"{path} is not a tokenizer: {error}") from None
