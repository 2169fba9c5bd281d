"""Groups words into utterances and paragraphs, by punctuation, pauses and ends of turns."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from nightscribe.records import Word
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    Speaker,
    one_line,
    written_words,
)

_SENTENCE_END = re.compile(r"[.?!\u2026\u3002\uff1f\uff01][\"'\u2019\u201d\u00bb)\]]*$")


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
    words = written_words(speaker)
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
