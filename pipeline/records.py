"""The nouns of the pipeline: frozen, checked once at birth, free of heavy imports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it was said, in seconds of its recording."""

    text: str
    start_s: float
    end_s: float
    confidence: float

    def __post_init__(self) -> None:
        if not 0 <= self.start_s <= self.end_s:
            raise ValueError(f"word {self.text!r} spans {self.start_s}..{self.end_s} s")
