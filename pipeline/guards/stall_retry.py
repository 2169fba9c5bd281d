"""Decodes stalled spans again and keeps the better words.

The caller hears: `redecode` yields what to hear next and is sent the words, so that the same
steps serve a plain loop, an asynchronous actor and a test.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.repetitions import num_looped_words
from nightscribe.guards.spans import spoken_end_s
from nightscribe.guards.stalls import stalls, uncovered_speech_s
from nightscribe.records import Span, Word


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


async def hear_attempts_later(
    attempts: Generator[Attempt, Sequence[Word], Redecoded],
    hear: Callable[[Attempt], Awaitable[Sequence[Word]]],
) -> Redecoded:
    """As `hear_attempts`, for a model that many ask at once."""
    try:
        attempt = next(attempts)
        while True:
            attempt = attempts.send(await hear(attempt))
    except StopIteration as finished:
        return finished.value


def _worthwhile(
    words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig
) -> Iterator[Span]:
    left_s = config.max_retry_s
    for finding in stalls(words, speech, config):
        stall = Span(finding.start_s, finding.end_s)
        left_s -= stall.duration_s
        if left_s >= 0:
            yield stall


def _attempts(
    samples_N: NDArray[np.int16], sample_rate_hz: int, stall: Span, config: GuardsConfig
) -> Iterator[Attempt]:
    """A fresh state; the same after more silence; the same at a temperature."""
    start_s = max(stall.start_s - config.retry_context_s, 0.0)
    end_s = stall.end_s + config.retry_context_s
    first = round(start_s * sample_rate_hz)
    cut_N = samples_N[first : round(end_s * sample_rate_hz)]
    yield Attempt(cut_N, 0.0, first / sample_rate_hz)
    num_silent = round(config.retry_silence_s * sample_rate_hz)
    quiet_N = np.concatenate([np.zeros(num_silent, np.int16), cut_N])
    yield Attempt(quiet_N, 0.0, (first - num_silent) / sample_rate_hz)
    if config.retry_temperature:
        temperature = config.retry_temperature
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
    inside = [_moved(word, attempt.start_s) for word in heard]
    if before:
        inside = _following(before[-1], inside, config)
    if after:
        inside = _preceding(after[0], inside, config)
    return (*_ended_by(before, inside), *inside, *after)


def _following(edge: Word, heard: Sequence[Word], config: GuardsConfig) -> list[Word]:
    """The words heard after the last known one, which may have been heard again among them."""
    again = [index for index, word in enumerate(heard) if _is_same(word, edge, config)]
    if again:
        return list(heard[again[-1] + 1 :])
    earliest_s = spoken_end_s(edge, config.max_word_s)
    return [word for word in heard if _middle_s(word) >= earliest_s]


def _preceding(edge: Word, heard: Sequence[Word], config: GuardsConfig) -> list[Word]:
    """The words heard before the next known one, which may have been heard again among them."""
    again = [index for index, word in enumerate(heard) if _is_same(word, edge, config)]
    if again:
        return list(heard[: again[0]])
    return [word for word in heard if _middle_s(word) < edge.start_s]


def _moved(word: Word, by_s: float) -> Word:
    start_s, end_s = max(word.start_s + by_s, 0.0), max(word.end_s + by_s, 0.0)
    return Word(word.text, start_s, end_s, word.confidence)


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def _is_same(word: Word, edge: Word, config: GuardsConfig) -> bool:
    """Whether one word was heard twice: its two times may be off in opposite directions."""
    is_near = abs(word.start_s - edge.start_s) <= 2 * config.collar_s
    return is_near and word.text.lower() == edge.text.lower()


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
