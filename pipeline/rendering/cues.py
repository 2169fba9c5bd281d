"""Utterances to subtitle cues that can be read: short lines, few of them, long enough on screen."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nightscribe.records import Word
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    milliseconds,
    one_line,
)
from nightscribe.rendering.utterances import Utterance, utterances

_CLAUSE_END = re.compile(r"[,;:\u2013\u2014-]$")


@dataclass(frozen=True, slots=True)
class Cue:
    """Words that stand on screen together, as lines; it begins exactly with its first word."""

    speaker: str
    lines: tuple[tuple[Word, ...], ...]
    start_ms: int
    end_ms: int

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for line in self.lines for word in line)


def cues(document: Document, config: RenderingConfig) -> list[Cue]:
    """The cues of all speakers in the order in which they begin."""
    spoken = utterances(document, config)
    timed: list[Cue] = []
    for name in dict.fromkeys(utterance.speaker for utterance in spoken):
        own = [cue for part in spoken if part.speaker == name for cue in _split(part, config)]
        timed += _stay(own, config)
    return sorted(timed, key=lambda cue: cue.start_ms)


def _split(utterance: Utterance, config: RenderingConfig) -> Iterator[Cue]:
    waiting = list(utterance.words)
    while waiting:
        num_words = _fitting(waiting, config)
        if num_words < len(waiting):
            num_words = _back_to_clause(waiting, num_words)
        yield _cue(utterance.speaker, waiting[:num_words], config)
        del waiting[:num_words]


def _fitting(words: list[Word], config: RenderingConfig) -> int:
    """How many of the words one cue can hold; at least one, however long it is."""
    most = 1
    while (
        most < len(words)
        and words[most].end_s - words[0].start_s <= config.max_cue_s
        and len(_fill(words[: most + 1], config.max_line_chars)) <= config.max_lines
    ):
        most += 1
    return most


def _back_to_clause(words: list[Word], num_words: int) -> int:
    """A cue cut short at a comma reads better, unless it becomes less than half of what fits."""
    for shorter in range(num_words, num_words // 2, -1):
        if _CLAUSE_END.search(one_line(words[shorter - 1].text)):
            return shorter
    return num_words


def _cue(speaker: str, words: list[Word], config: RenderingConfig) -> Cue:
    lines = tuple(map(tuple, _balance(words, config.max_line_chars)))
    start_ms = milliseconds(words[0].start_s)
    return Cue(speaker, lines, start_ms, milliseconds(max(word.end_s for word in words)))


def _fill(words: list[Word], max_chars: int) -> list[list[Word]]:
    """Lines filled one after the other; a word longer than a line has a line of its own."""
    lines: list[list[Word]] = []
    for word in words:
        if lines and _num_chars([*lines[-1], word]) <= max_chars:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _balance(words: list[Word], max_chars: int) -> list[list[Word]]:
    """As few lines as filling takes, of lengths as equal as they can be."""
    num_lines = len(_fill(words, max_chars))
    narrowest = next(
        width
        for width in range(_num_chars(words) // num_lines, _num_chars(words) + 1)
        if len(_fill(words, width)) <= num_lines
    )
    return _fill(words, narrowest)


def _num_chars(words: list[Word]) -> int:
    return sum(len(one_line(word.text)) for word in words) + len(words) - 1


def _stay(own: list[Cue], config: RenderingConfig) -> Iterator[Cue]:
    """Each cue until it can be read, but not into the next one of its speaker."""
    next_starts_ms = [cue.start_ms for cue in own[1:]] + [None]
    for cue, next_start_ms in zip(own, next_starts_ms, strict=True):
        yield replace(cue, end_ms=_end_ms(cue, next_start_ms, config))


def _end_ms(cue: Cue, next_start_ms: int | None, config: RenderingConfig) -> int:
    reading_s = _num_chars(list(cue.words)) / config.reading_chars_per_s
    readable_ms = cue.start_ms + milliseconds(
        min(max(config.min_cue_s, reading_s), config.max_cue_s)
    )
    if next_start_ms is not None:
        readable_ms = min(readable_ms, next_start_ms)
    spoken_ms = min(cue.end_ms, cue.start_ms + milliseconds(config.max_cue_s))
    # A cue must outlast the start of its last word, or players would never show that word.
    last_start_ms = milliseconds(cue.words[-1].start_s)
    return max(spoken_ms, readable_ms, last_start_ms + 1)
