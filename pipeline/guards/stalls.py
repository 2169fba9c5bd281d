"""Speech without words: long spans are stalls of the model, many short ones mean poor coverage."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf

from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Finding, Span, Word


def stalls(words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig) -> list[Finding]:
    """Spans between words with more speech than the model may leave without a word."""
    if not words and total_s(speech) < config.min_empty_speech_s:
        return []
    longest_s = config.stall_s if words else config.min_empty_speech_s
    return [
        _finding("stall", spoken)
        for spoken in _speech_between_words(words, speech, config)
        if total_s(spoken) >= longest_s
    ]


def holes(words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig) -> list[Finding]:
    """Spans between words with enough speech to count as not covered."""
    return [
        _finding("coverage", spoken)
        for spoken in _speech_between_words(words, speech, config)
        if total_s(spoken) >= config.hole_s
    ]


def uncovered_speech_s(
    words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig
) -> float:
    """Seconds of speech in all holes."""
    between = _speech_between_words(words, speech, config)
    return sum(total_s(spoken) for spoken in between if total_s(spoken) >= config.hole_s)


def _speech_between_words(
    words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig
) -> Iterator[list[Span]]:
    covered = merged(
        Span(
            word.start_s - config.collar_s,
            spoken_end_s(word, config.max_word_s) + config.collar_s,
        )
        for word in words
    )
    for before, after in pairwise([Span(-inf, 0.0), *covered, Span(inf, inf)]):
        spoken = list(within(speech, before.end_s, after.start_s))
        if spoken:
            yield spoken


def _finding(guard: str, spoken: Sequence[Span]) -> Finding:
    detail = f"{total_s(spoken):.1f} s of speech without a word"
    return Finding(guard, spoken[0].start_s, spoken[-1].end_s, detail)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The union of the spans, as sorted spans that neither touch nor overlap."""
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
    """Where a word ends at the latest: the model lets a word last until the next one begins."""
    return min(word.end_s, word.start_s + max_word_s)
