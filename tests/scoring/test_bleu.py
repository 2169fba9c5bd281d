import math
from collections import Counter

import pytest

from nightscribe.scoring.bleu import score_bleu
from nightscribe.scoring.word_errors import TextPair


def bleu(references, hypotheses):
    """Corpus BLEU on lower-case words without punctuation, directly from its definition."""
    logs = []
    for order in range(1, 5):
        matches = total = 0
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            expected, found = (
                Counter(zip(*(text.split()[start:] for start in range(order)), strict=False))
                for text in (reference, hypothesis)
            )
            matches += (expected & found).total()
            total += found.total()
        logs.append(math.log(matches / total))
    reference_len, hypothesis_len = (
        sum(len(t.split()) for t in ts) for ts in (references, hypotheses)
    )
    return 100 * min(1, math.exp(1 - reference_len / hypothesis_len)) * math.exp(sum(logs) / 4)


def test_bleu_equals_its_definition():
    references = ["the cat sat on the mat today again", "he went home by train last night"]
    hypotheses = ["the cat sat on the mat again", "he went home by bus last night yes"]
    pairs = [TextPair("x", *both) for both in zip(references, hypotheses, strict=True)]
    score = score_bleu(pairs)
    assert score.bleu == pytest.approx(bleu(references, hypotheses), abs=1e-6)
    assert "tok:13a" in score.signature


def test_no_pairs_have_no_bleu():
    with pytest.raises(ValueError, match="at least one pair"):
        score_bleu([])
