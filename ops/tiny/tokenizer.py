"""The small model's tokenizer: its words are pieces; letters spell all other words.

python -m ops.tiny.tokenizer VOCABULARY OUTPUT
"""

import string
import sys
from collections.abc import Iterator
from pathlib import Path

from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

from nightscribe.training.vocabulary import WORD_MARK
from ops.tiny.sizes import NUM_TEXT_TOKENS

# Words beat any spelling of themselves.
WORD_SCORE, LETTER_SCORE = -5.0, -20.0
SPARE = "0123456789.,?!-"


def word_tokenizer(words: list[str]) -> bytes:
    """A SentencePiece model; ids 0 to 3 are end of padding, two controls and padding."""
    proto, kinds = ModelProto(), ModelProto.SentencePiece.Type
    proto.pieces.add(piece="<unk>", score=0.0, type=kinds.UNKNOWN)
    for control in ("<s>", "</s>", "<pad>"):
        proto.pieces.add(piece=control, score=0.0, type=kinds.CONTROL)
    for piece, score in _pieces(words):
        if len(proto.pieces) < NUM_TEXT_TOKENS:
            proto.pieces.add(piece=piece, score=score)
    _configure(proto)
    return proto.SerializeToString()


def _pieces(words: list[str]) -> Iterator[tuple[str, float]]:
    yield from ((WORD_MARK + word, WORD_SCORE) for word in words)
    yield from ((sign, LETTER_SCORE) for sign in (WORD_MARK, *string.ascii_lowercase, "'", *SPARE))


def _configure(proto: ModelProto) -> None:
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type = trainer.ModelType.UNIGRAM
    trainer.vocab_size = len(proto.pieces)
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, 3
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = True
    normalizer.remove_extra_whitespaces = True
    normalizer.escape_whitespaces = True


if __name__ == "__main__":
    vocabulary, output = map(Path, sys.argv[1:])
    output.write_bytes(word_tokenizer(vocabulary.read_text(encoding="utf-8").split()))
