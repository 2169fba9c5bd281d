"""Which words are heard as which others."""

from collections import Counter
from collections.abc import Iterator, Sequence

import jiwer

MAX_ROWS = 30
NOTHING = ""


def confusions(said: Sequence[str], heard: Sequence[str]) -> list[tuple[str, str, int]]:
    """What was said, what was heard instead, how often; the commonest first.

    A word heard where none was said has nothing on the left, one that was not heard on the right.
    """
    aligned = jiwer.process_words(list(said), list(heard))
    counts = Counter(_pairs(aligned))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(*pair, count) for pair, count in ordered[:MAX_ROWS]]


def _pairs(aligned: jiwer.WordOutput) -> Iterator[tuple[str, str]]:
    texts = zip(aligned.references, aligned.hypotheses, aligned.alignments, strict=True)
    for said, heard, chunks in texts:
        for chunk in chunks:
            if chunk.type == "equal":
                continue
            left = said[chunk.ref_start_idx : chunk.ref_end_idx] or [NOTHING]
            right = heard[chunk.hyp_start_idx : chunk.hyp_end_idx] or [NOTHING]
            length = max(len(left), len(right))
            left, right = (side * (length if side == [NOTHING] else 1) for side in (left, right))
            yield from zip(left, right, strict=True)
