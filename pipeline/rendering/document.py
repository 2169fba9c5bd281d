"""The input of every renderer: a name, and the words of each speaker; utterances and paragraphs.

Punctuation, pauses and ends of turns end an utterance.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from nightscribe.options import check_options, option
from nightscribe.records import Span, SpeakerSpan, Word

_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# What speakers are called before anybody has named them.
_LABEL = re.compile(r"speaker-\d+")
_SENTENCE_END = re.compile(r"[.?!\u2026\u3002\uff1f\uff01][\"'\u2019\u201d\u00bb)\]]*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderingConfig:
    """Limits of utterances, paragraphs and cues."""

    max_line_chars: int = option(
        42, "longest line of a subtitle, in characters", above=0, common=True
    )
    max_lines: int = option(2, "most lines of a subtitle", above=0, common=True)
    max_cue_s: float = option(7.0, "longest time a subtitle is shown", above=0)
    min_cue_s: float = option(
        0.833, "shortest time a subtitle is shown, where the next one leaves room", above=0
    )
    reading_chars_per_s: float = option(
        17.0,
        "reading speed for which a subtitle is shown long enough, where there is room",
        above=0,
    )
    max_word_s: float = option(1.0, "a word that lasts longer is taken to contain a pause", above=0)
    utterance_gap_s: float = option(0.8, "a pause this long ends an utterance", above=0)
    paragraph_gap_s: float = option(2.0, "a pause this long ends a paragraph", above=0)
    max_paragraph_words: int = option(120, "a longer paragraph ends with its sentence", above=0)

    def __post_init__(self) -> None:
        check_options(self, "rendering")


@dataclass(frozen=True, slots=True)
class Speaker:
    """The words of one speaker; `turn_ends_s` is where end-of-turn detection says they finish."""

    name: str
    words: tuple[Word, ...]
    turn_ends_s: tuple[float, ...] = ()
    speech: tuple[Span, ...] = ()  # where voice activity was detected; empty: unknown
    spans: tuple[Span, ...] = ()  # where this speaker speaks; empty: unknown
    channel: int | None = None  # from 0; None: the mix of all


@dataclass(frozen=True, slots=True)
class Document:
    """One transcript; without named speakers, the channels of a recording are its speakers."""

    name: str
    speakers: tuple[Speaker, ...]
    duration_s: float = 0.0  # of the recording; 0: unknown
    uri: str = ""  # of the recording

    @property
    def names_speakers(self) -> bool:
        return len(self.speakers) > 1


def monologue(name: str, words: Iterable[Word], speech: Iterable[Span] = ()) -> Document:
    """A document with one speaker without a name."""
    return Document(name, (Speaker("", tuple(words), speech=tuple(speech)),))


def speakers_in(
    words: Sequence[Word],
    spans: Sequence[SpeakerSpan],
    *,
    channel_name: str = "",
    channel: int | None = None,
    turn_ends_s: Sequence[float] = (),
    speech: Sequence[Span] = (),
) -> tuple[Speaker, ...]:
    """The speakers that the words of one channel name, or one with the name of the channel."""
    names = dict.fromkeys([*(one.speaker for one in spans), *(word.speaker for word in words)])
    names.pop(None, None)
    rest = Speaker(channel_name, tuple(words), tuple(turn_ends_s), tuple(speech), channel=channel)
    if not names:
        return (rest,)
    ends_s = sorted({*turn_ends_s, *_changes_s(words)})
    return tuple(
        replace(
            rest,
            name=_name_in_channel(name, channel_name, len(names)),
            channel=channel or 0,
            words=tuple(word for word in words if word.speaker == name),
            turn_ends_s=tuple(ends_s),
            spans=tuple(Span(one.start_s, one.end_s) for one in spans if one.speaker == name),
        )
        for name in names
        if name is not None
    )


def _changes_s(words: Sequence[Word]) -> Iterator[float]:
    """The start of each word that another speaker follows: there a turn ends."""
    for word, following in pairwise(words):
        if word.speaker != following.speaker:
            yield word.start_s


def _name_in_channel(name: str, channel_name: str, num_names: int) -> str:
    """A person's name as it is; a label says which channel it is of."""
    if not channel_name or not _LABEL.fullmatch(name):
        return name
    return channel_name if num_names == 1 else f"{channel_name}, {name}"


def one_line(text: str) -> str:
    """The text without line breaks, tabs and control characters, which the formats use."""
    return _CONTROL_OR_SPACE.sub(" ", text).strip()


def written_words(speaker: Speaker, config: RenderingConfig) -> list[Word]:
    """The words of the speaker by start, without those that have no text."""
    words = without_pauses(speaker.words, speaker.speech, config)
    return sorted((word for word in words if one_line(word.text)), key=lambda word: word.start_s)


def without_pauses(
    words: Sequence[Word], speech: Sequence[Span], config: RenderingConfig
) -> Sequence[Word]:
    """The same words, none of which lasts into the pause after it, where speech is known."""
    if not speech:
        return words
    return [replace(word, end_s=spoken_end_s(word, speech, config)) for word in words]


def spoken_end_s(word: Word, speech: Sequence[Span], config: RenderingConfig) -> float:
    """Where a word ends at the latest: the model lets a word last until the next one begins.

    That is `max_word_s` after its start, or where the last speech before that ends.
    """
    latest_s = min(word.end_s, word.start_s + config.max_word_s)
    index = bisect_left(speech, latest_s, key=lambda span: span.start_s) - 1
    if index < 0 or speech[index].end_s <= word.start_s:
        return latest_s
    return min(latest_s, speech[index].end_s)


def milliseconds(time_s: float) -> int:
    return round(time_s * 1000)


def hours_clock(time_s: float) -> str:
    """0:01:02, by the second that has begun."""
    minutes, seconds = divmod(int(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


@dataclass(frozen=True, slots=True)
class SpeakerUtterance:
    """What one speaker says without a pause, a sentence at most."""

    speaker: str
    words: tuple[Word, ...]
    ends_turn: bool = False  # end-of-turn detection says that the speaker finishes here

    @property
    def start_s(self) -> float:
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        return self.words[-1].end_s

    @property
    def text(self) -> str:
        return " ".join(one_line(word.text) for word in self.words)


def utterances(document: Document, config: RenderingConfig) -> list[SpeakerUtterance]:
    """The utterances of all speakers, by start."""
    parts = [part for speaker in document.speakers for part in _of_speaker(speaker, config)]
    return sorted(parts, key=lambda utterance: utterance.start_s)


def paragraphs(
    ordered: Iterable[SpeakerUtterance], config: RenderingConfig
) -> Iterator[tuple[SpeakerUtterance, ...]]:
    """Consecutive utterances of one speaker, until a long pause or enough sentences."""
    paragraph: list[SpeakerUtterance] = []
    for utterance in ordered:
        if paragraph and _ends_paragraph(paragraph, utterance, config):
            yield tuple(paragraph)
            paragraph = []
        paragraph.append(utterance)
    if paragraph:
        yield tuple(paragraph)


def _of_speaker(speaker: Speaker, config: RenderingConfig) -> Iterator[SpeakerUtterance]:
    words = written_words(speaker, config)
    turn_ends_s = sorted(speaker.turn_ends_s)
    first = 0
    for index, (word, following) in enumerate(pairwise(words), start=1):
        ends_turn = _ends_turn(word, following, turn_ends_s)
        if ends_turn or _ends_utterance(word, following, config):
            yield SpeakerUtterance(speaker.name, tuple(words[first:index]), ends_turn)
            first = index
    if words:
        yield SpeakerUtterance(speaker.name, tuple(words[first:]))


def _ends_turn(word: Word, following: Word, turn_ends_s: list[float]) -> bool:
    next_turn_end = bisect_left(turn_ends_s, word.start_s)
    return next_turn_end < len(turn_ends_s) and turn_ends_s[next_turn_end] < following.start_s


def _ends_utterance(word: Word, following: Word, config: RenderingConfig) -> bool:
    if _pause_s(word, following, config) >= config.utterance_gap_s:
        return True
    # After "Mr." or "e.g." a lower-case letter shows that the sentence goes on.
    return _ends_sentence(word) and not one_line(following.text)[0].islower()


def _pause_s(word: Word, following: Word, config: RenderingConfig) -> float:
    # The model ends a word where the next one begins: a very long word contains the pause.
    return following.start_s - min(word.end_s, word.start_s + config.max_word_s)


def _ends_sentence(word: Word) -> bool:
    return bool(_SENTENCE_END.search(one_line(word.text)))


def _ends_paragraph(
    paragraph: list[SpeakerUtterance], following: SpeakerUtterance, config: RenderingConfig
) -> bool:
    last = paragraph[-1]
    if following.speaker != last.speaker or last.ends_turn:
        return True
    if _pause_s(last.words[-1], following.words[0], config) >= config.paragraph_gap_s:
        return True
    num_words = sum(len(utterance.words) for utterance in paragraph)
    return num_words >= config.max_paragraph_words and _ends_sentence(last.words[-1])
