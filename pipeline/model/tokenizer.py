"""Text tokens to text and back, from a SentencePiece model or a `tokenizer.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import tokenizers

WORD_MARK = "\u2581"  # at the start of a piece: a space is before it


class Tokenizer(Protocol):
    """Either kind of tokenizer."""

    @property
    def num_tokens(self) -> int: ...

    def __hash__(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of these tokens; unknown and control tokens have none."""
        ...

    def begins_word(self, token: int) -> bool:
        """Whether this token begins with a space."""
        ...


class SentencePieceTokenizer:
    """A `.model` file."""

    def __init__(self, path: Path) -> None:
        import sentencepiece  # here, since what is measured with random weights goes without it

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
        texts = [t for t in tokens if not processor.is_control(t) and not processor.is_unknown(t)]
        return processor.decode(texts)

    def begins_word(self, token: int) -> bool:
        return self._processor.id_to_piece(token).startswith(WORD_MARK)


class JsonTokenizer:
    """A `tokenizer.json` file, converted from a SentencePiece model."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        unknown = self._tokenizer.token_to_id("<unk>")
        self._unknown = {} if unknown is None else {unknown}

    @property
    def num_tokens(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        known = [token for token in tokens if token not in self._unknown]
        return self._tokenizer.decode(known, skip_special_tokens=True).removeprefix(" ")

    def begins_word(self, token: int) -> bool:
        piece = self._tokenizer.id_to_token(token)
        return piece is not None and piece.startswith(WORD_MARK)


def open_tokenizer(path: Path) -> Tokenizer:
    """Open either kind by the file's extension; raises ValueError if it cannot be read."""
    kind = JsonTokenizer if path.suffix == ".json" else SentencePieceTokenizer
    try:
        return kind(path)
    # The libraries raise RuntimeError, OSError and bare Exception for files they cannot read.
    except Exception as error:
        raise ValueError(f"{path} is not a tokenizer: {error}") from None
