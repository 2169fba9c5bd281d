"""Word and character errors of pairs of texts, counted by jiwer."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import jiwer

from nightscribe.scoring.normalization import Normaliser


@dataclass(frozen=True, slots=True)
class Pair:
    """One recording's reference text and what was heard instead."""

    recording_id: str
    reference: str
    hypothesis: str
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Errors:
    """How many units (words or characters) were right, wrong, missed and made up."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def num_reference(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def num_wrong(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Wrong units per unit of the reference; None where the reference is empty."""
        return self.num_wrong / self.num_reference if self.num_reference else None

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True, slots=True)
class Confusions:
    """The errors by word; a substitution is (reference word, heard word)."""

    substitutions: Counter[tuple[str, str]] = field(default_factory=Counter)
    deletions: Counter[str] = field(default_factory=Counter)
    insertions: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class PairScore:
    """The errors in one recording."""

    pair: Pair
    words: Errors
    characters: Errors


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """The errors in a set of recordings, one by one and together."""

    pairs: tuple[PairScore, ...]
    words: Errors
    characters: Errors
    confusions: Confusions

    @property
    def mean_word_error_rate(self) -> float | None:
        """The mean over recordings, each counting alike however long it is."""
        rates = [score.words.rate for score in self.pairs if score.words.rate is not None]
        return sum(rates) / len(rates) if rates else None

    def worst(self, num_pairs: int) -> list[PairScore]:
        """The recordings with the highest word error rates; words made up for nothing first."""
        return sorted(self.pairs, key=_badness, reverse=True)[:num_pairs]


def score_corpus(pairs: Iterable[Pair], normalise: Normaliser) -> CorpusScore:
    """Count the errors of every pair after both texts went through `normalise`."""
    confusions = Confusions()
    scores = tuple(_score_pair(pair, normalise, confusions) for pair in pairs)
    return CorpusScore(
        scores,
        sum((score.words for score in scores), Errors()),
        sum((score.characters for score in scores), Errors()),
        confusions,
    )


def combined(scores: Iterable[CorpusScore]) -> CorpusScore:
    """Several sets of recordings as one."""
    pairs: tuple[PairScore, ...] = ()
    words, characters, confusions = Errors(), Errors(), Confusions()
    for score in scores:
        pairs += score.pairs
        words, characters = words + score.words, characters + score.characters
        confusions.substitutions.update(score.confusions.substitutions)
        confusions.deletions.update(score.confusions.deletions)
        confusions.insertions.update(score.confusions.insertions)
    return CorpusScore(pairs, words, characters, confusions)


def _score_pair(pair: Pair, normalise: Normaliser, confusions: Confusions) -> PairScore:
    reference, hypothesis = normalise(pair.reference), normalise(pair.hypothesis)
    words = jiwer.process_words(reference, hypothesis)
    _add_confusions(words, confusions)
    characters = jiwer.process_characters(reference, hypothesis)
    return PairScore(pair, _errors(words), _errors(characters))


def _errors(aligned: jiwer.WordOutput | jiwer.CharacterOutput) -> Errors:
    return Errors(aligned.hits, aligned.substitutions, aligned.deletions, aligned.insertions)


def _add_confusions(aligned: jiwer.WordOutput, confusions: Confusions) -> None:
    reference: Sequence[str] = aligned.references[0]
    heard: Sequence[str] = aligned.hypotheses[0]
    for chunk in aligned.alignments[0]:
        said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        written = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "substitute":
            confusions.substitutions.update(zip(said, written, strict=True))
        elif chunk.type == "delete":
            confusions.deletions.update(said)
        elif chunk.type == "insert":
            confusions.insertions.update(written)


def _badness(score: PairScore) -> tuple[float, int]:
    rate = score.words.rate
    if rate is None:
        rate = float("inf") if score.words.num_wrong else 0.0
    return rate, score.words.num_wrong
