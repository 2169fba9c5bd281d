"""Recordings with reference transcripts, read from a manifest, decoded, tokenised and timed.

A manifest is JSON lines, one example a line:

    {"audio": "calls/0001.flac", "text": "press one now",
     "words": [{"text": "press", "start_s": 0.31, "end_s": 0.62}, ...],
     "start_s": 12.0, "end_s": 19.5, "domain": "calls"}

`words` may be left out, and is then found by alignment; `start_s` and `end_s` cut the example out
of a longer file, and times of words count from `start_s`. Paths are relative to the manifest.
The columns of the manifests of `transcribe`, such as `uri`, `start` and `end`, mean the same, and
so do its CSV and Parquet files.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from nightscribe.model.speech_to_text import FULL_SCALE, SpeechToText
from nightscribe.storage import manifests
from nightscribe.storage.manifests import COLUMNS
from nightscribe.storage.text_files import read_text
from nightscribe.training.targets import AlignmentError, TimedTokens, align
from nightscribe.training.windows import Utterance

TABLES = (".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word and its time, in seconds of its example."""

    text: str
    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not self.text or self.text != self.text.strip():
            raise ValueError(f"a word must be a text without spaces around it, got {self.text!r}")
        if self.end_s < self.start_s:
            raise ValueError(f"word {self.text!r} spans {self.start_s}..{self.end_s} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A span of a file and its reference transcript."""

    path: Path
    text: str
    words: tuple[SpokenWord, ...] | None = None
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the file
    domain: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < (float("inf") if self.end_s is None else self.end_s):
            raise ValueError(
                f"{self.path}: the span from {self.start_s} to {self.end_s} s is empty"
            )
        if self.words is not None and self.text.split() != self._spoken_texts():
            raise ValueError(f"{self.path}: the text and its timed words differ: {self.text!r:.80}")

    def _spoken_texts(self) -> list[str]:
        return _joined(self.words or ()).split()

    @classmethod
    def parse(cls, row: Any, folder: Path) -> Self:
        """Read one row of a manifest in `folder`."""
        if not isinstance(row, dict):
            raise ValueError(f"expected an object with audio and text, got {row!r:.60}")
        given = {name: _given(row, columns) for name, columns in COLUMNS.items()}
        if given["uri"] is None:
            raise KeyError("audio")
        words = given["words"]
        if words is not None:
            words = tuple(SpokenWord(w["text"], w["start_s"], w["end_s"]) for w in words)
        if given["text"] is None and words is None:
            raise KeyError("text")
        return cls(
            path=folder / given["uri"],
            text=_joined(words or ()) if given["text"] is None else given["text"],
            words=words,
            start_s=given["start_s"] or 0.0,
            end_s=given["end_s"],
            domain=given["domain"],
        )


def _given(row: dict[str, Any], columns: Iterable[str]) -> Any:
    return next((row[column] for column in columns if row.get(column) is not None), None)


def _joined(words: Iterable[SpokenWord]) -> str:
    return " ".join(word.text for word in words)


def read_manifest(path: Path) -> list[Example]:
    """All examples of a manifest; a bad line raises ValueError with its number."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}; a manifest has one example a line, as JSON")
    examples = list(_examples(path))
    if not examples:
        raise ValueError(f"{path} has no examples")
    return examples


def _examples(path: Path) -> Iterator[Example]:
    rows = _table_rows(path) if path.suffix.lower() in TABLES else _json_rows(path)
    for where, row in rows:
        try:
            yield Example.parse(row, path.parent)
        except KeyError as error:
            raise ValueError(f"{where}: the key {error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where}: {error}") from None


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    # A text may contain characters at which `splitlines` would split.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        where = f"{path}, line {number}"
        try:
            if line.strip():
                yield where, json.loads(line)
        except json.JSONDecodeError:
            sentence = "this is not JSON; a manifest has one example a line, as JSON"
            raise ValueError(f"{where}: {sentence}") from None


def _table_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, row in enumerate(manifests.read_manifest(str(path), file), start=1):
            yield f"{path} row {number}", row


logger = logging.getLogger(__name__)

Decode = Callable[[Path], np.ndarray]  # a whole file as int16 samples at the model's rate


class Tokenizer(Protocol):
    """The part of a tokenizer that training needs."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: list[int]) -> str: ...


def samples_of(examples: Iterable[Example], decode: Decode, rate_hz: int) -> Iterator[np.ndarray]:
    """The samples of each example; consecutive examples of one file decode it once."""
    decoded: tuple[Path, np.ndarray] | None = None
    for example in examples:
        if decoded is None or decoded[0] != example.path:
            decoded = (example.path, decode(example.path))
        end = None if example.end_s is None else round(example.end_s * rate_hz)
        samples_N = decoded[1][round(example.start_s * rate_hz) : end]
        if not len(samples_N):
            raise ValueError(f"{example.path} ends before {example.start_s} s")
        yield samples_N


def utterances_of(
    examples: list[Example],
    decode: Decode,
    tokenizer: Tokenizer,
    aligner: SpeechToText,
    max_skipped_share: float = 1.0,
) -> list[Utterance]:
    """Utterances for windows; examples whose text does not match their audio are skipped.

    Raises ValueError when more than this share of them is: a model that has learned from the rest
    would be judged by a WER that says little.
    """
    rate_hz = aligner.config.mimi.sample_rate_hz
    utterances = []
    skipped: list[str] = []
    for example, samples_N in zip(examples, samples_of(examples, decode, rate_hz), strict=True):
        try:
            words = timed_tokens(example, samples_N, tokenizer, aligner)
        except AlignmentError as error:
            logger.warning("%s skipped: %s", example.path, error)
            skipped.append(f"{example.path}: {error}")
            continue
        waveform_N = samples_N.astype(np.float32) / FULL_SCALE
        utterances.append(Utterance(waveform_N, words, example.domain))
    if len(skipped) > max_skipped_share * len(examples):
        raise ValueError(
            f"{len(skipped)} of {len(examples)} examples do not match their text, such as "
            f"{skipped[0]}; correct them, give the times of their words, or raise max_skipped_share"
        )
    return utterances


def timed_tokens(
    example: Example, samples_N: np.ndarray, tokenizer: Tokenizer, aligner: SpeechToText
) -> tuple[TimedTokens, ...]:
    """The words of an example as tokens with times, from the manifest or by alignment."""
    if example.words is None:
        return align(aligner, samples_N, _tokens_of(example, example.text.split(), tokenizer))
    texts = [word.text for word in example.words]
    return tuple(
        TimedTokens(tokens, word.start_s, word.end_s)
        for word, tokens in zip(example.words, _tokens_of(example, texts, tokenizer), strict=True)
    )


def _tokens_of(example: Example, texts: list[str], tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """Tokenise each word alone; raise ValueError if the vocabulary cannot write it."""
    tokens = [tuple(tokenizer.encode(text)) for text in texts]
    for text, written in zip(texts, tokens, strict=True):
        if "".join(tokenizer.decode(list(written)).split()) != "".join(text.split()):
            raise ValueError(f"{example.path}: the model's vocabulary cannot write {text!r}")
    return tokens
