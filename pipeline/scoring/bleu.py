"""BLEU, for domains whose references are translations."""

from collections.abc import Sequence
from dataclasses import dataclass

import sacrebleu

from nightscribe.scoring.word_errors import TextPair


@dataclass(frozen=True, slots=True)
class BleuScore:
    """Corpus BLEU in percent, and the signature that says how it was computed."""

    bleu: float
    signature: str


def score_bleu(pairs: Sequence[TextPair]) -> BleuScore:
    """Corpus BLEU of the texts without normalisation."""
    if not pairs:
        raise ValueError("BLEU needs at least one pair of texts")
    metric = sacrebleu.BLEU()
    hypotheses = [pair.hypothesis for pair in pairs]
    score = metric.corpus_score(hypotheses, [[pair.reference for pair in pairs]])
    return BleuScore(score.score, str(metric.get_signature()))
