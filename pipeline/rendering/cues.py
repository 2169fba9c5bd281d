"""Subtitles: splits utterances into cues, breaks their lines, times them; SubRip and WebVTT.

The style, as in the guides of broadcasters:

- At most `max_line_chars` a line, the speaker's name included, and `max_lines` lines.
- Cues and lines break at the end of a clause where that leaves both parts long enough. No cue holds
  the last word or two of an utterance alone if the cue before can give it some.
- A cue starts with its first word and lasts `min_cue_s` to `max_cue_s`. It stays until it can be
  read at `reading_chars_per_s`, but at most HOLD_MS after its last word is spoken.
- Where there is room, GAP_MS lie between two cues of a speaker. A cue overlaps one of another
  speaker only while both speak.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from nightscribe.records import Word
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    Speaker,
    SpeakerUtterance,
    milliseconds,
    one_line,
    spoken_end_s,
    utterances,
)

HOLD_MS = 1000
GAP_MS = 80  # two frames at 25 frames per second
# A cue with fewer words at the end of an utterance takes some from the cue before.
MIN_LAST_WORDS = 3
# A line break at a clause may leave one line this much shorter than the other.
MIN_LINE_SHARE = 0.4
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


@dataclass(frozen=True, slots=True)
class ReadingSpeed:
    """How fast the cues of a document have to be read: too fast for some, where speech is fast."""

    num_cues: int
    num_fast: int  # above `reading_chars_per_s`
    fastest_chars_per_s: float


def reading_speed(document: Document, config: RenderingConfig) -> ReadingSpeed:
    """Measured on the cues as they are shown."""
    speeds = [
        round(1000 * _num_chars(cue.words) / (cue.end_ms - cue.start_ms), 1)
        for cue in cues(document, config)
    ]
    num_fast = sum(speed > config.reading_chars_per_s for speed in speeds)
    return ReadingSpeed(len(speeds), num_fast, max(speeds, default=0.0))


def cues(document: Document, config: RenderingConfig) -> list[Cue]:
    """The cues of all speakers, by start."""
    by_name = {speaker.name: speaker for speaker in document.speakers}
    spoken = [
        cue
        for utterance in utterances(document, config)
        for cue in _CueSplitter(document, by_name[utterance.speaker], config).split(utterance)
    ]
    return list(_timed(sorted(spoken, key=lambda cue: cue.start_ms), config))


class _CueSplitter:
    """Splits the utterances of one speaker into cues that end when their last word ends."""

    def __init__(self, document: Document, speaker: Speaker, config: RenderingConfig) -> None:
        self._speaker, self._config = speaker, config
        # The name of the speaker stands in the first line.
        self._indent = len(f"{one_line(speaker.name)}: ") if document.names_speakers else 0

    def split(self, utterance: SpeakerUtterance) -> Iterator[Cue]:
        rest = list(utterance.words)
        while rest:
            num_words = self._num_fitting(rest)
            if num_words < len(rest):
                num_words = _clause_break(rest, num_words)
            if 0 < len(rest) - num_words < MIN_LAST_WORDS:
                num_words = min(_even_break(rest), num_words)
            yield self._cue(rest[:num_words])
            del rest[:num_words]

    def _num_fitting(self, words: list[Word]) -> int:
        """How many words fit into one cue; at least one, however long it is."""
        num_words = 1
        while num_words < len(words) and self._fits(words[: num_words + 1]):
            num_words += 1
        return num_words

    def _fits(self, words: list[Word]) -> bool:
        if self._end_s(words[-1]) - words[0].start_s > self._config.max_cue_s:
            return False
        return len(_fill(words, self._config.max_line_chars, self._indent)) <= (
            self._config.max_lines
        )

    def _cue(self, words: list[Word]) -> Cue:
        lines = _break_lines(words, self._config.max_line_chars, self._indent)
        end_ms = milliseconds(max(self._end_s(word) for word in words))
        start_ms = milliseconds(words[0].start_s)
        return Cue(self._speaker.name, tuple(map(tuple, lines)), start_ms, end_ms)

    def _end_s(self, word: Word) -> float:
        return spoken_end_s(word, self._speaker.speech, self._config)


def _ends_clause(word: Word) -> bool:
    return bool(_CLAUSE_END.search(one_line(word.text)))


def _clause_break(words: list[Word], num_words: int) -> int:
    """The last clause end at which the cue still holds more than half of the words that fit."""
    for num_clause in range(num_words, num_words // 2, -1):
        if _ends_clause(words[num_clause - 1]):
            return num_clause
    return num_words


def _even_break(words: list[Word]) -> int:
    """The number of words after which both parts have about as many characters."""
    return min(
        range(1, len(words)),
        key=lambda index: abs(_num_chars(words[:index]) - _num_chars(words[index:])),
    )


def _fill(words: list[Word], max_chars: int, indent: int) -> list[list[Word]]:
    """Fill lines one by one; a word longer than a line gets its own line."""
    lines: list[list[Word]] = []
    for word in words:
        room = max_chars - indent if len(lines) == 1 else max_chars
        if lines and _num_chars([*lines[-1], word]) <= room:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _break_lines(words: list[Word], max_chars: int, indent: int) -> list[list[Word]]:
    """The fewest possible lines: two at a clause end if one is suitable, else of equal lengths."""
    num_lines = len(_fill(words, max_chars, indent))
    if num_lines == 2 and (index := _clause_line_break(words, max_chars, indent)):
        return [words[:index], words[index:]]
    narrowest = next(
        width
        for width in range(_num_chars(words) // num_lines, _num_chars(words) + indent + 1)
        if len(_fill(words, width, indent)) <= num_lines
    )
    return _fill(words, narrowest, indent)


def _clause_line_break(words: list[Word], max_chars: int, indent: int) -> int | None:
    """The clause end that makes the two lines most equal, if they both fit and none is tiny."""
    shares = {}
    for index in range(1, len(words)):
        first, second = indent + _num_chars(words[:index]), _num_chars(words[index:])
        if _ends_clause(words[index - 1]) and max(first, second) <= max_chars:
            shares[index] = min(first, second) / max(first, second)
    best = max(shares, key=shares.__getitem__, default=None)
    return best if best is not None and shares[best] >= MIN_LINE_SHARE else None


def _num_chars(words: Sequence[Word]) -> int:
    return sum(len(one_line(word.text)) for word in words) + len(words) - 1


def _timed(ordered: Sequence[Cue], config: RenderingConfig) -> Iterable[Cue]:
    """Each cue until it can be read, as far as the following cues leave room."""
    next_of_speaker: dict[str, int] = {}
    timed: list[Cue] = []
    start_ms = later_start_ms = None  # of the following cue, and of the first after that
    for cue in reversed(ordered):
        if start_ms is not None and start_ms > cue.start_ms:
            later_start_ms = start_ms
        end_ms = _end_ms(cue, next_of_speaker.get(cue.speaker), later_start_ms, config)
        timed.append(replace(cue, end_ms=end_ms))
        start_ms = next_of_speaker[cue.speaker] = cue.start_ms
    return reversed(timed)


def _end_ms(
    cue: Cue, own_next_ms: int | None, any_next_ms: int | None, config: RenderingConfig
) -> int:
    shortest_ms = cue.start_ms + milliseconds(config.min_cue_s)
    longest_ms = cue.start_ms + milliseconds(config.max_cue_s)
    reading_s = _num_chars(cue.words) / config.reading_chars_per_s
    readable_ms = cue.start_ms + milliseconds(reading_s)
    held_ms = max(shortest_ms, min(readable_ms, cue.end_ms + HOLD_MS))
    if any_next_ms is not None:
        held_ms = min(held_ms, any_next_ms)
    end_ms = min(max(cue.end_ms, held_ms), longest_ms)
    if own_next_ms is not None:
        has_room = own_next_ms - GAP_MS >= shortest_ms
        end_ms = min(end_ms, own_next_ms - GAP_MS if has_room else own_next_ms)
    # A cue must end after its last word starts, or players would never show that word.
    return max(end_ms, milliseconds(cue.words[-1].start_s) + 1)


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
