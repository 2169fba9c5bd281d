"""The input of every renderer: a name, and the words of each speaker."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nightscribe.records import Span, Word

_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


@dataclass(kw_only=True, slots=True)
class RenderingConfig:
    """Limits of utterances, paragraphs and cues."""

    max_line_chars: int = field(default=42, metadata={"help": "longest line of a subtitle"})
    max_lines: int = field(default=2, metadata={"help": "most lines of one subtitle"})
    max_cue_s: float = field(default=7.0, metadata={"help": "longest time one subtitle stays"})
    min_cue_s: float = field(
        default=0.833, metadata={"help": "shortest time one subtitle stays, where there is room"}
    )
    reading_chars_per_s: float = field(
        default=17.0,
        metadata={"help": "a subtitle stays this long to be read, where there is room"},
    )
    max_word_s: float = field(
        default=1.0, metadata={"help": "a word that lasts longer is taken to contain a pause"}
    )
    utterance_gap_s: float = field(default=0.8, metadata={"help": "a pause that ends an utterance"})
    paragraph_gap_s: float = field(default=2.0, metadata={"help": "a pause that ends a paragraph"})
    max_paragraph_words: int = field(
        default=120, metadata={"help": "a longer paragraph ends with its sentence"}
    )

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Speaker:
    """The words of one speaker; `turn_ends_s` is where end-of-turn detection says they finish."""

    name: str
    words: tuple[Word, ...]
    turn_ends_s: tuple[float, ...] = ()
    speech: tuple[Span, ...] = ()  # where voice activity was detected; empty: unknown


@dataclass(frozen=True, slots=True)
class Document:
    """One transcript; the channels of a stereo recording are its speakers."""

    name: str
    speakers: tuple[Speaker, ...]

    @property
    def names_speakers(self) -> bool:
        return len(self.speakers) > 1


def monologue(name: str, words: Iterable[Word]) -> Document:
    """A document with one speaker without a name."""
    return Document(name, (Speaker("", tuple(words)),))


def one_line(text: str) -> str:
    """The text without line breaks, tabs and control characters, which the formats use."""
    return _CONTROL_OR_SPACE.sub(" ", text).strip()


def written_words(speaker: Speaker) -> list[Word]:
    """The words of the speaker by start, without those that have no text."""
    written = [word for word in speaker.words if one_line(word.text)]
    return sorted(written, key=lambda word: word.start_s)


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
