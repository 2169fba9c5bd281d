import math
from collections import Counter

import pytest

from nightscribe.scoring.translation import score_translation
from nightscribe.scoring.word_errors import Pair


def bleu(references, hypotheses):
    """Corpus BLEU on lower-case words without punctuation, straight from its definition."""
    logs = []
    for order in range(1, 5):
        matches = total = 0
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            said, heard = (
                Counter(zip(*(text.split()[start:] for start in range(order)), strict=False))
                for text in (reference, hypothesis)
            )
            matches += (said & heard).total()
            total += heard.total()
        logs.append(math.log(matches / total))
    said_len, heard_len = (sum(len(t.split()) for t in ts) for ts in (references, hypotheses))
    return 100 * min(1, math.exp(1 - said_len / heard_len)) * math.exp(sum(logs) / 4)


def test_bleu_equals_its_definition():
    references = ["the cat sat on the mat today again", "he went home by train last night"]
    hypotheses = ["the cat sat on the mat again", "he went home by bus last night yes"]
    pairs = [Pair("x", *both) for both in zip(references, hypotheses, strict=True)]
    score = score_translation(pairs)
    assert score.bleu == pytest.approx(bleu(references, hypotheses), abs=1e-6)
    assert "tok:13a" in score.signature


def test_no_pairs_have_no_bleu():
    with pytest.raises(ValueError, match="at least one pair"):
        score_translation([])
