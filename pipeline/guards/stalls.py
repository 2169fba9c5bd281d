"""Speech without words: long stretches are stalls of the model, many short ones poor coverage."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.spans import merged, spoken_end_s, total_s, within
from nightscribe.records import Finding, Span, Word


def stalls(words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig) -> list[Finding]:
    """Stretches between words in which somebody speaks for longer than the model may be silent."""
    if not words and total_s(speech) < config.min_empty_speech_s:
        return []
    longest_s = config.stall_s if words else config.min_empty_speech_s
    return [
        _finding("stall", spoken)
        for spoken in _speech_between_words(words, speech, config)
        if total_s(spoken) >= longest_s
    ]


def holes(words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig) -> list[Finding]:
    """Stretches between words with enough speech to count as not covered."""
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
