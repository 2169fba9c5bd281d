"""Makes texts comparable: spelling, numbers, case and punctuation are no errors of hearing."""

from collections.abc import Callable
from functools import cache

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

Normaliser = Callable[[str], str]


@cache
def normaliser(language: str) -> Normaliser:
    """The open ASR leaderboard's normaliser for English, its plain one for any other language."""
    is_english = language.lower().split("-")[0] in ("en", "english")
    normalise = EnglishTextNormalizer() if is_english else BasicTextNormalizer()
    return lambda text: " ".join(normalise(text).split())


def as_written(text: str) -> str:
    """The text itself; only runs of spaces are made one."""
    return " ".join(text.split())
