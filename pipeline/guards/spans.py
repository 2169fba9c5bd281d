"""Spans of time and what is left between them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from nightscribe.records import Span, Word


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same time covered, by spans that neither touch nor overlap."""
    union: list[Span] = []
    for span in sorted(spans):
        if union and span.start_s <= union[-1].end_s:
            union[-1] = Span(union[-1].start_s, max(union[-1].end_s, span.end_s))
        else:
            union.append(span)
    return union


def within(spans: Sequence[Span], start_s: float, end_s: float) -> Iterator[Span]:
    """The parts of sorted, disjoint spans that lie between two times."""
    first = max(bisect_right(spans, start_s, key=lambda span: span.start_s) - 1, 0)
    for span in spans[first:]:
        if span.start_s >= end_s:
            return
        inside = Span(max(span.start_s, start_s), min(span.end_s, end_s))
        if inside.duration_s > 0:
            yield inside


def total_s(spans: Iterable[Span]) -> float:
    return sum(span.duration_s for span in spans)


def spoken_end_s(word: Word, max_word_s: float) -> float:
    """Where the sound of a word ends: the model stretches a word until the next one begins."""
    return min(word.end_s, word.start_s + max_word_s)
