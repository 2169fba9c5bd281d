"""What a model learns from: recordings of which it is known what is said, and mostly when.

A manifest is JSON lines, one example a line:

    {"audio": "calls/0001.flac", "text": "press one now",
     "words": [{"text": "press", "start_s": 0.31, "end_s": 0.62}, ...],
     "start_s": 12.0, "end_s": 19.5, "domain": "calls"}

`words` may be left out, and is then found by alignment; `start_s` and `end_s` cut the example out
of a longer file, and times of words count from `start_s`. Paths are relative to the manifest.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word and when it is said, in seconds of its example."""

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
    """A span of a file and what is said in it."""

    path: Path
    text: str
    words: tuple[SpokenWord, ...] | None = None
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the file
    domain: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < (float("inf") if self.end_s is None else self.end_s):
            raise ValueError(f"{self.path}: nothing lies between {self.start_s} and {self.end_s} s")
        if self.words is not None and self.text.split() != self._spoken_texts():
            raise ValueError(f"{self.path}: the text and its timed words differ: {self.text!r:.80}")

    def _spoken_texts(self) -> list[str]:
        return _joined(self.words or ()).split()

    @classmethod
    def parse(cls, row: Any, folder: Path) -> Self:
        """From one row of a manifest that lies in `folder`."""
        if not isinstance(row, dict):
            raise ValueError(f"expected an object with audio and text, got {row!r:.60}")
        words = row.get("words")
        if words is not None:
            words = tuple(SpokenWord(w["text"], w["start_s"], w["end_s"]) for w in words)
        return cls(
            path=folder / row["audio"],
            text=row["text"] if words is None or "text" in row else _joined(words),
            words=words,
            start_s=row.get("start_s", 0.0),
            end_s=row.get("end_s"),
            domain=row.get("domain"),
        )


def _joined(words: Iterable[SpokenWord]) -> str:
    return " ".join(word.text for word in words)


def read_manifest(path: Path) -> list[Example]:
    """All examples of a manifest; a bad line raises ValueError with its number."""
    examples = list(_examples(path))
    if not examples:
        raise ValueError(f"{path} names no examples")
    return examples


def _examples(path: Path) -> Iterator[Example]:
    # A text may hold what `splitlines` takes for the end of a line.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Example.parse(json.loads(line), path.parent)
        except KeyError as error:
            raise ValueError(f"{path}, line {number}: the key {error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
