"""SubRip and WebVTT subtitles: splits utterances into readable cues and renders them.

WebVTT carries the start of every word inside its cues.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape

from nightscribe.records import Word
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    milliseconds,
    one_line,
)
from nightscribe.rendering.utterances import SpeakerUtterance, utterances

_CLAUSE_END = re.compile(r"[,;:\u2013\u2014-]$")


@dataclass(frozen=True, slots=True)
class Cue:
    """Words shown together, as lines; a cue starts exactly with its first word."""

    speaker: str
    lines: tuple[tuple[Word, ...], ...]
    start_ms: int
    end_ms: int

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for line in self.lines for word in line)


def render_srt(document: Document, config: RenderingConfig) -> str:
    blocks = [
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        f"{_srt_text(cue, document.names_speakers)}\n"
        for number, cue in enumerate(cues(document, config), start=1)
    ]
    return "\n".join(blocks)


def render_vtt(document: Document, config: RenderingConfig) -> str:
    blocks = [
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        f"{_vtt_text(cue, document.names_speakers)}\n"
        for cue in cues(document, config)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def cues(document: Document, config: RenderingConfig) -> list[Cue]:
    """The cues of all speakers, by start."""
    all_utterances = utterances(document, config)
    timed: list[Cue] = []
    for name in dict.fromkeys(utterance.speaker for utterance in all_utterances):
        own = [
            cue for part in all_utterances if part.speaker == name for cue in _split(part, config)
        ]
        timed += _extended(own, config)
    return sorted(timed, key=lambda cue: cue.start_ms)


def _split(utterance: SpeakerUtterance, config: RenderingConfig) -> Iterator[Cue]:
    rest = list(utterance.words)
    while rest:
        num_words = _num_fitting(rest, config)
        if num_words < len(rest):
            num_words = _back_to_clause(rest, num_words)
        yield _cue(utterance.speaker, rest[:num_words], config)
        del rest[:num_words]


def _num_fitting(words: list[Word], config: RenderingConfig) -> int:
    """How many words fit into one cue; at least one, however long it is."""
    num_words = 1
    while (
        num_words < len(words)
        and words[num_words].end_s - words[0].start_s <= config.max_cue_s
        and len(_fill(words[: num_words + 1], config.max_line_chars)) <= config.max_lines
    ):
        num_words += 1
    return num_words


def _back_to_clause(words: list[Word], num_words: int) -> int:
    """The last clause end at which the cue still holds at least half of the words that fit."""
    for num_clause in range(num_words, num_words // 2, -1):
        if _CLAUSE_END.search(one_line(words[num_clause - 1].text)):
            return num_clause
    return num_words


def _cue(speaker: str, words: list[Word], config: RenderingConfig) -> Cue:
    lines = tuple(map(tuple, _balance(words, config.max_line_chars)))
    start_ms = milliseconds(words[0].start_s)
    return Cue(speaker, lines, start_ms, milliseconds(max(word.end_s for word in words)))


def _fill(words: list[Word], max_chars: int) -> list[list[Word]]:
    """Fill lines one by one; a word longer than a line gets its own line."""
    lines: list[list[Word]] = []
    for word in words:
        if lines and _num_chars([*lines[-1], word]) <= max_chars:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _balance(words: list[Word], max_chars: int) -> list[list[Word]]:
    """The fewest possible lines, of lengths as equal as possible."""
    num_lines = len(_fill(words, max_chars))
    narrowest = next(
        width
        for width in range(_num_chars(words) // num_lines, _num_chars(words) + 1)
        if len(_fill(words, width)) <= num_lines
    )
    return _fill(words, narrowest)


def _num_chars(words: list[Word]) -> int:
    return sum(len(one_line(word.text)) for word in words) + len(words) - 1


def _extended(own: list[Cue], config: RenderingConfig) -> Iterator[Cue]:
    """Extend each cue until it can be read, but not into the next cue of its speaker."""
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
    # A cue must end after its last word starts, or players would never show that word.
    last_start_ms = milliseconds(cue.words[-1].start_s)
    return max(spoken_ms, readable_ms, last_start_ms + 1)


def _srt_text(cue: Cue, names_speaker: bool) -> str:
    lines = [" ".join(one_line(word.text) for word in line) for line in cue.lines]
    speaker = f"{one_line(cue.speaker)}: " if names_speaker else ""
    return speaker + "\n".join(lines)


def _vtt_text(cue: Cue, names_speaker: bool) -> str:
    voice = f"<v {escape(one_line(cue.speaker), quote=False)}>" if names_speaker else ""
    last_ms = cue.start_ms
    lines = []
    for line in cue.lines:
        texts = []
        for word in line:
            texts.append(_word_text(word, last_ms))
            last_ms = max(last_ms, milliseconds(word.start_s))
        lines.append(" ".join(texts))
    return voice + "\n".join(lines)


def _word_text(word: Word, last_ms: int) -> str:
    """The word after its start time, which WebVTT requires to increase."""
    text = escape(one_line(word.text), quote=False)
    start_ms = milliseconds(word.start_s)
    return f"<{_clock(start_ms, '.')}><c>{text}</c>" if start_ms > last_ms else f"<c>{text}</c>"


def _clock(time_ms: int, decimal_mark: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{ms:03}"
