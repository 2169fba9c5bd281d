"""The speech corpora of the recipe: folders of Opus files with a manifest of their utterances."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 24000


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and when it is said, in seconds of its utterance."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance: int16 sound, words and, where they are known, phones."""

    utterance_id: str
    voice: str
    samples_N: np.ndarray
    words: tuple[TimedWord, ...]
    phones: tuple[tuple[str, float, float], ...] = ()

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def read_corpus(folder: Path) -> Iterator[Spoken]:
    """Every utterance of a corpus folder."""
    phones = _phones(folder / "phones.jsonl")
    for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        file_N = _decoded(folder / row["audio"])
        yield Spoken(
            utterance_id=row["id"],
            voice=row["voice"],
            samples_N=file_N[round(row["start_s"] * RATE_HZ) : round(row["end_s"] * RATE_HZ)],
            words=tuple(TimedWord(w["text"], w["start_s"], w["end_s"]) for w in row["words"]),
            phones=phones.get(row["id"], ()),
        )


@lru_cache(maxsize=4)
def _decoded(path: Path) -> np.ndarray:
    samples, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == RATE_HZ, f"{path} is at {rate_hz} Hz"
    return samples


def _phones(path: Path) -> dict[str, tuple[tuple[str, float, float], ...]]:
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: tuple((p, start, end) for p, start, end in phones) for name, phones in rows}


def read_phones(folder: Path) -> list[str]:
    """The phones that a corpus has, each once."""
    return sorted(
        {phone for spans in _phones(folder / "phones.jsonl").values() for phone, *_ in spans}
    )
