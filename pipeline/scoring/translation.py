"""BLEU for domains whose reference is a translation."""

from collections.abc import Sequence
from dataclasses import dataclass

import sacrebleu

from nightscribe.scoring.word_errors import Pair


@dataclass(frozen=True, slots=True)
class TranslationScore:
    """Corpus BLEU in percent, and the signature that says how it was counted."""

    bleu: float
    signature: str


def score_translation(pairs: Sequence[Pair]) -> TranslationScore:
    """Corpus BLEU of the texts as they are written."""
    if not pairs:
        raise ValueError("BLEU needs at least one pair of texts")
    metric = sacrebleu.BLEU()
    hypotheses = [pair.hypothesis for pair in pairs]
    score = metric.corpus_score(hypotheses, [[pair.reference for pair in pairs]])
    return TranslationScore(score.score, str(metric.get_signature()))
