"""Transcribes stalled spans again and keeps the better words.

`retry_stalls` is a generator: it yields the audio to transcribe next and is sent the words, so that
the transcriber can queue each attempt like any other clip.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.hallucinations import num_looped_words
from nightscribe.guards.stalls import spoken_end_s, stalls, uncovered_speech_s
from nightscribe.records import Span, Word


@dataclass(frozen=True, slots=True)
class RetryAttempt:
    """Audio to transcribe alone, from a fresh model state, at a temperature."""

    samples_N: NDArray[np.int16] = field(repr=False)
    temperature: float
    start_s: float  # of the first sample, in the clip; negative after added silence


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The better words, the stalls that are gone, and how many attempts were made."""

    words: tuple[Word, ...]
    fixed_stalls: tuple[Span, ...] = ()
    num_attempts: int = 0


def retry_stalls(
    samples_N: NDArray[np.int16],
    sample_rate_hz: int,
    words: Sequence[Word],
    speech: Sequence[Span],
    config: GuardsConfig,
) -> Generator[RetryAttempt, Sequence[Word], RetryResult]:
    """Yield attempts at each stall, receive their words, return those that cover most speech."""
    best, num_attempts = tuple(words), 0
    fixed: list[Span] = []
    for stall in _stalls_to_retry(words, speech, config):
        before = best
        for attempt in _attempts(samples_N, sample_rate_hz, stall, config):
            retried = yield attempt
            num_attempts += 1
            best = _better(best, _spliced(before, stall, attempt, retried, config), speech, config)
            if not _stalls_inside(best, speech, stall, config):
                fixed.append(stall)
                break
    return RetryResult(best, tuple(fixed), num_attempts)


def _stalls_to_retry(
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
) -> Iterator[RetryAttempt]:
    """From a fresh state; then after added silence; then also at a temperature."""
    start_s = max(stall.start_s - config.retry_context_s, 0.0)
    end_s = stall.end_s + config.retry_context_s
    first = round(start_s * sample_rate_hz)
    cut_N = samples_N[first : round(end_s * sample_rate_hz)]
    yield RetryAttempt(cut_N, 0.0, first / sample_rate_hz)
    num_silent = round(config.retry_silence_s * sample_rate_hz)
    quiet_N = np.concatenate([np.zeros(num_silent, np.int16), cut_N])
    yield RetryAttempt(quiet_N, 0.0, (first - num_silent) / sample_rate_hz)
    if config.retry_temperature:
        temperature = config.retry_temperature
        yield RetryAttempt(quiet_N, temperature, (first - num_silent) / sample_rate_hz)


def _spliced(
    words: Sequence[Word],
    stall: Span,
    attempt: RetryAttempt,
    retried: Sequence[Word],
    config: GuardsConfig,
) -> tuple[Word, ...]:
    """The words, with those of the retry between the two words around the stall."""
    before = [word for word in words if word.start_s < stall.start_s]
    after = [word for word in words if word.start_s >= stall.start_s]
    inside = [_moved(word, attempt.start_s) for word in retried]
    if before:
        inside = _following(before[-1], inside, config)
    if after:
        inside = _preceding(after[0], inside, config)
    return (*_ended_by(before, inside), *inside, *after)


def _following(edge: Word, retried: Sequence[Word], config: GuardsConfig) -> list[Word]:
    """The retried words after the last known word, which the retry may contain again."""
    repeated = [index for index, word in enumerate(retried) if _is_same(word, edge, config)]
    if repeated:
        return list(retried[repeated[-1] + 1 :])
    earliest_s = spoken_end_s(edge, config.max_word_s)
    return [word for word in retried if _middle_s(word) >= earliest_s]


def _preceding(edge: Word, retried: Sequence[Word], config: GuardsConfig) -> list[Word]:
    """The retried words before the next known word, which the retry may contain again."""
    repeated = [index for index, word in enumerate(retried) if _is_same(word, edge, config)]
    if repeated:
        return list(retried[: repeated[0]])
    return [word for word in retried if _middle_s(word) < edge.start_s]


def _moved(word: Word, by_s: float) -> Word:
    start_s, end_s = max(word.start_s + by_s, 0.0), max(word.end_s + by_s, 0.0)
    return Word(word.text, start_s, end_s, word.confidence)


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def _is_same(word: Word, edge: Word, config: GuardsConfig) -> bool:
    """Whether both are one word of the audio: their times may be off in opposite directions."""
    is_near = abs(word.start_s - edge.start_s) <= 2 * config.collar_s
    return is_near and word.text.lower() == edge.text.lower()


def _ended_by(before: Sequence[Word], inside: Sequence[Word]) -> Sequence[Word]:
    """The words before, the last one shortened to end where the found words begin."""
    if not before or not inside:
        return before
    *others, last = before
    end_s = max(min(last.end_s, inside[0].start_s), last.start_s)
    return (*others, replace(last, end_s=end_s))


def _better(
    known: tuple[Word, ...],
    retried: tuple[Word, ...],
    speech: Sequence[Span],
    config: GuardsConfig,
) -> tuple[Word, ...]:
    """Whichever leaves less speech without words, but never those with more looped words."""
    gains = uncovered_speech_s(retried, speech, config) < uncovered_speech_s(known, speech, config)
    loops = num_looped_words(retried, config) > num_looped_words(known, config)
    return retried if gains and not loops else known


def _stalls_inside(
    words: Sequence[Word], speech: Sequence[Span], stall: Span, config: GuardsConfig
) -> bool:
    return any(
        found.start_s < stall.end_s and stall.start_s < found.end_s
        for found in stalls(words, speech, config)
    )
