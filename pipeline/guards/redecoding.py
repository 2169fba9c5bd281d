"""Decodes stalled spans again and keeps the better words.

The caller hears: `redecode` yields what to hear next and is sent the words, so that the same
steps serve a plain loop, an asynchronous actor and a test.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from pipeline.guards.config import GuardsConfig
from pipeline.guards.loops import num_looped_words
from pipeline.guards.spans import Span, spoken_end_s
from pipeline.guards.stalls import stalls, uncovered_speech_s
from pipeline.records import Word


@dataclass(frozen=True, slots=True)
class Attempt:
    """Samples to be heard by themselves, from a fresh state, at a temperature."""

    samples_N: NDArray[np.int16] = field(repr=False)
    temperature: float
    # What lies at the first sample, on the clock of the whole clip.
    start_s: float


@dataclass(frozen=True, slots=True)
class Redecoded:
    """The better words, the stalls they cured, and what hearing them took."""

    words: tuple[Word, ...]
    cured: tuple[Span, ...] = ()
    num_attempts: int = 0


Hear = Callable[[Attempt], Sequence[Word]]


def redecode(
    samples_N: NDArray[np.int16],
    sample_rate_hz: int,
    words: Sequence[Word],
    speech: Sequence[Span],
    config: GuardsConfig,
) -> Generator[Attempt, Sequence[Word], Redecoded]:
    """Yield attempts at each stall, take the words heard, return what covers most."""
    best, num_attempts = tuple(words), 0
    cured: list[Span] = []
    for stall in _worthwhile(words, speech, config):
        before = best
        for attempt in _attempts(samples_N, sample_rate_hz, stall, config):
            heard = yield attempt
            num_attempts += 1
            best = _better(best, _spliced(before, stall, attempt, heard, config), speech, config)
            if not _stalls_inside(best, speech, stall, config):
                cured.append(stall)
                break
    return Redecoded(best, tuple(cured), num_attempts)


def hear_attempts(attempts: Generator[Attempt, Sequence[Word], Redecoded], hear: Hear) -> Redecoded:
    """Run the generator to its end with a function that hears."""
    try:
        attempt = next(attempts)
        while True:
            attempt = attempts.send(hear(attempt))
    except StopIteration as finished:
        return finished.value


def _worthwhile(
    words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig
) -> Iterator[Span]:
    left_s = config.max_redecoded_s
    for finding in stalls(words, speech, config):
        stall = Span(finding.start_s, finding.end_s)
        left_s -= stall.duration_s
        if left_s >= 0:
            yield stall


def _attempts(
    samples_N: NDArray[np.int16], sample_rate_hz: int, stall: Span, config: GuardsConfig
) -> Iterator[Attempt]:
    """A fresh state; the same after more silence; the same at a temperature."""
    start_s = max(stall.start_s - config.redecoding_lead_s, 0.0)
    end_s = stall.end_s + config.collar_s
    first = round(start_s * sample_rate_hz)
    cut_N = samples_N[first : round(end_s * sample_rate_hz)]
    yield Attempt(cut_N, 0.0, first / sample_rate_hz)
    num_silent = round(config.redecoding_silence_s * sample_rate_hz)
    quiet_N = np.concatenate([np.zeros(num_silent, np.int16), cut_N])
    yield Attempt(quiet_N, 0.0, (first - num_silent) / sample_rate_hz)
    if config.redecoding_temperature:
        temperature = config.redecoding_temperature
        yield Attempt(quiet_N, temperature, (first - num_silent) / sample_rate_hz)


def _spliced(
    words: Sequence[Word],
    stall: Span,
    attempt: Attempt,
    heard: Sequence[Word],
    config: GuardsConfig,
) -> tuple[Word, ...]:
    """The words with what was heard anew between the two that the stall separates."""
    before = [word for word in words if word.start_s < stall.start_s]
    after = [word for word in words if word.start_s >= stall.start_s]
    earliest_s = spoken_end_s(before[-1], config.max_word_s) if before else 0.0
    latest_s = after[0].start_s if after else inf
    moved = (_moved(word, attempt.start_s) for word in heard)
    inside = [word for word in moved if earliest_s <= (word.start_s + word.end_s) / 2 < latest_s]
    if before and inside and _is_same(before[-1], inside[0], config):
        del inside[0]
    if after and inside and _is_same(inside[-1], after[0], config):
        del inside[-1]
    return (*_ended_by(before, inside), *inside, *after)


def _moved(word: Word, by_s: float) -> Word:
    start_s, end_s = max(word.start_s + by_s, 0.0), max(word.end_s + by_s, 0.0)
    return Word(word.text, start_s, end_s, word.confidence)


def _is_same(first: Word, second: Word, config: GuardsConfig) -> bool:
    """Whether one word at the edge of the span was heard by both."""
    gap_s = second.start_s - spoken_end_s(first, config.max_word_s)
    return first.text.lower() == second.text.lower() and gap_s < config.collar_s


def _ended_by(before: Sequence[Word], inside: Sequence[Word]) -> Sequence[Word]:
    """The words before, the last of which no longer lasts over those found after it."""
    if not before or not inside:
        return before
    *others, last = before
    end_s = max(min(last.end_s, inside[0].start_s), last.start_s)
    return (*others, replace(last, end_s=end_s))


def _better(
    known: tuple[Word, ...],
    tried: tuple[Word, ...],
    speech: Sequence[Span],
    config: GuardsConfig,
) -> tuple[Word, ...]:
    """Whichever leaves less speech without words, but never words that go round in a loop."""
    gains = uncovered_speech_s(tried, speech, config) < uncovered_speech_s(known, speech, config)
    loops = num_looped_words(tried, config) > num_looped_words(known, config)
    return tried if gains and not loops else known


def _stalls_inside(
    words: Sequence[Word], speech: Sequence[Span], stall: Span, config: GuardsConfig
) -> bool:
    return any(
        found.start_s < stall.end_s and stall.start_s < found.end_s
        for found in stalls(words, speech, config)
    )
