"""The scoring of the open ASR leaderboard since June 2026, for English.

It differs from Whisper's normaliser with plain word errors in this:

- More sounds that are not words are left out; `'s` is "is" only after some words.
- Names and compounds that are written in several ways count as one, and letters in a row are one
  acronym.
- Words that are joined on one side and apart on the other count as right: "white paper".
"""

import json
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from whisper_normalizer.english import EnglishTextNormalizer

from nightscribe.scoring.word_errors import Normaliser, TextPair

WORDS_FILE = "leaderboard_2026.json"
SOUNDS = (
    *("hmm", "mm", "mhm", "mmm", "uh", "um", "ah", "aha", "ahh", "ahm", "eh", "ehehe", "em", "hm"),
    *("huh", "hum", "mhum", "uhm", "umm", "uhuh"),
)
# Contractions of Whisper's normaliser that the leaderboard leaves as they are, or reads otherwise.
KEPT_CONTRACTIONS = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b")
IS_AFTER = (
    *("it", "he", "she", "what", "that", "who", "here", "there"),
    *("how", "when", "where", "why", "this"),
)
# Letters that are words of their own, so that two of them are no acronym yet.
LETTER_WORDS = ("a", "i")


@dataclass(frozen=True, slots=True)
class LeaderboardScore:
    """Words of the references, and the errors that the leaderboard counts."""

    num_reference: int
    num_errors: int

    @property
    def rate(self) -> float | None:
        return self.num_errors / self.num_reference if self.num_reference else None


def score_leaderboard(pairs: Iterable[TextPair]) -> LeaderboardScore:
    normalise = leaderboard_normaliser()
    num_reference = num_errors = 0
    for pair in pairs:
        reference, hypothesis = (
            normalise(pair.reference).split(),
            normalise(pair.hypothesis).split(),
        )
        num_reference += len(reference)
        num_errors += word_errors_with_joins(reference, hypothesis)
    return LeaderboardScore(num_reference, num_errors)


@cache
def leaderboard_normaliser() -> Normaliser:
    """Whisper's normaliser for English with the leaderboard's words and rules."""
    words = json.loads(files("nightscribe.scoring").joinpath(WORDS_FILE).read_text("utf-8"))
    normalise = EnglishTextNormalizer()
    normalise.ignore_patterns = rf"\b({'|'.join(SOUNDS)})\b"
    normalise.replacers = dict(_contractions(normalise.replacers))
    spellings = normalise.standardize_spellings.mapping | words["spellings"]
    steps = (_each_word(spellings), _each_word(words["names"]), joined_letters)
    normalise.standardize_spellings = _in_turn(*steps)
    compounds = _compounds(words["compounds"])
    normalise.standardize_numbers = _in_turn(compounds, normalise.standardize_numbers)
    return lambda text: " ".join(normalise(text).split())


def _contractions(whispers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for pattern, replacement in whispers.items():
        if pattern == r"'s\b":
            yield rf"\b({'|'.join(IS_AFTER)})'s\b", r"\1 is"
        elif pattern not in KEPT_CONTRACTIONS:
            yield pattern, replacement


def _in_turn(*steps: Normaliser) -> Normaliser:
    def all_steps(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return all_steps


def _each_word(spelt: Mapping[str, str]) -> Normaliser:
    return lambda text: " ".join(spelt.get(word, word) for word in text.split())


def _compounds(joined: Mapping[str, str]) -> Normaliser:
    patterns = [
        (re.compile(r"\b" + r"\s+".join(apart.split()) + r"\b"), together)
        for apart, together in joined.items()
    ]

    def join(text: str) -> str:
        for pattern, together in patterns:
            text = pattern.sub(together, text)
        return text

    return join


def joined_letters(text: str) -> str:
    """Letters and digits that stand alone in a row as one word; with "a" or "i" only from three."""
    joined: list[str] = []
    run: list[str] = []
    for word in [*text.split(), ""]:
        if len(word) == 1 and word.isalnum():
            run.append(word)
            continue
        fewest = 3 if set(run) & set(LETTER_WORDS) else 2
        joined += ["".join(run)] if len(run) >= fewest else run
        joined.append(word)
        run = []
    return " ".join(joined[:-1])


def word_errors_with_joins(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The fewest substitutions, deletions and insertions; a word joined or apart costs nothing.

    Of the table of costs, with a row for each word of the reference, only the last rows are kept.
    """
    numbers = {word: number for number, word in enumerate({*reference, *hypothesis})}
    hypothesis_H = np.array([numbers[word] for word in hypothesis], np.int64)
    columns = np.arange(len(hypothesis) + 1)
    joins = _joins(reference, hypothesis)
    longest = max((num_above for cells in joins.values() for _, num_above, _ in cells), default=1)
    rows: deque[NDArray[np.int64]] = deque([columns], maxlen=longest)
    for index, word in enumerate(reference, start=1):
        row = rows[-1] + 1  # deletions
        np.minimum(row[1:], rows[-1][:-1] + (hypothesis_H != numbers[word]), out=row[1:])
        for column, num_above, num_left in joins.get(index, ()):
            row[column] = min(row[column], rows[-num_above][column - num_left])
        # Insertions, from the left to the right.
        rows.append(np.minimum.accumulate(row - columns) + columns)
    return int(rows[-1][-1])


def _joins(
    reference: Sequence[str], hypothesis: Sequence[str]
) -> dict[int, list[tuple[int, int, int]]]:
    """By row: a column, and how far above and left of it the words begin that are alike."""
    found = defaultdict(list)
    for end, num_words, place in _written_apart(reference, hypothesis):
        found[end].append((place + 1, num_words, 1))
    for end, num_words, place in _written_apart(hypothesis, reference):
        found[place + 1].append((end, 1, num_words))
    return found


def _written_apart(words: Sequence[str], others: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Where several words end that are one word of the others, how many, and its place there."""
    places = defaultdict(list)
    for place, other in enumerate(others):
        places[other].append(place)
    longest = max(map(len, others), default=0)
    for start, joined in enumerate(words):
        for end in range(start + 1, len(words)):
            joined += words[end]
            if len(joined) > longest:
                break
            yield from ((end + 1, end + 1 - start, place) for place in places.get(joined, ()))
