"""Word and character error rates (WER, CER) of text pairs, counted by jiwer after normalisation."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import jiwer
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

Normaliser = Callable[[str], str]


@cache
def normaliser(language: str) -> Normaliser:
    """Whisper's normaliser for English, its basic one for other languages."""
    normalise = EnglishTextNormalizer() if is_english(language) else BasicTextNormalizer()
    return lambda text: " ".join(normalise(text).split())


def is_english(language: str) -> bool:
    return language.lower().split("-")[0] in ("en", "english")


def as_written(text: str) -> str:
    """The text itself, with every run of spaces as one space: for scores without normalisation."""
    return " ".join(text.split())


@dataclass(frozen=True, slots=True)
class TextPair:
    """The reference and the hypothesis of one recording."""

    recording_id: str
    reference: str
    hypothesis: str
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Counts of words or characters by kind of error."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def num_reference(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def num_errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per word or character of the reference; None if the reference is empty."""
        return self.num_errors / self.num_reference if self.num_reference else None

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True, slots=True)
class Confusions:
    """Error counts by word; a substitution is (reference word, hypothesis word)."""

    substitutions: Counter[tuple[str, str]] = field(default_factory=Counter)
    deletions: Counter[str] = field(default_factory=Counter)
    insertions: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class PairScore:
    """The errors of one recording."""

    pair: TextPair
    words: ErrorCounts
    characters: ErrorCounts


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """The errors of a set of recordings, one by one and in total."""

    pairs: tuple[PairScore, ...]
    words: ErrorCounts
    characters: ErrorCounts
    confusions: Confusions

    @property
    def mean_word_error_rate(self) -> float | None:
        """The mean over recordings, each with the same weight whatever its length."""
        rates = [score.words.rate for score in self.pairs if score.words.rate is not None]
        return sum(rates) / len(rates) if rates else None

    def worst(self, num_pairs: int) -> list[PairScore]:
        """The recordings with the highest WER; insertions into an empty reference come first."""
        return sorted(self.pairs, key=_severity, reverse=True)[:num_pairs]


def score_corpus(pairs: Iterable[TextPair], normalise: Normaliser) -> CorpusScore:
    """The errors of every pair after both texts are normalised."""
    confusions = Confusions()
    scores = tuple(_score_pair(pair, normalise, confusions) for pair in pairs)
    return CorpusScore(
        scores,
        sum((score.words for score in scores), ErrorCounts()),
        sum((score.characters for score in scores), ErrorCounts()),
        confusions,
    )


def combine_scores(scores: Iterable[CorpusScore]) -> CorpusScore:
    """The score of several sets of recordings together."""
    pairs: tuple[PairScore, ...] = ()
    words, characters, confusions = ErrorCounts(), ErrorCounts(), Confusions()
    for score in scores:
        pairs += score.pairs
        words, characters = words + score.words, characters + score.characters
        confusions.substitutions.update(score.confusions.substitutions)
        confusions.deletions.update(score.confusions.deletions)
        confusions.insertions.update(score.confusions.insertions)
    return CorpusScore(pairs, words, characters, confusions)


def _score_pair(pair: TextPair, normalise: Normaliser, confusions: Confusions) -> PairScore:
    reference, hypothesis = normalise(pair.reference), normalise(pair.hypothesis)
    words = jiwer.process_words(reference, hypothesis)
    _add_confusions(words, confusions)
    characters = jiwer.process_characters(reference, hypothesis)
    return PairScore(pair, _errors(words), _errors(characters))


def _errors(aligned: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(aligned.hits, aligned.substitutions, aligned.deletions, aligned.insertions)


def _add_confusions(aligned: jiwer.WordOutput, confusions: Confusions) -> None:
    all_references: Sequence[str] = aligned.references[0]
    all_hypotheses: Sequence[str] = aligned.hypotheses[0]
    for chunk in aligned.alignments[0]:
        reference = all_references[chunk.ref_start_idx : chunk.ref_end_idx]
        hypothesis = all_hypotheses[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "substitute":
            confusions.substitutions.update(zip(reference, hypothesis, strict=True))
        elif chunk.type == "delete":
            confusions.deletions.update(reference)
        elif chunk.type == "insert":
            confusions.insertions.update(hypothesis)


def _severity(score: PairScore) -> tuple[float, int]:
    rate = score.words.rate
    if rate is None:
        rate = float("inf") if score.words.num_errors else 0.0
    return rate, score.words.num_errors
