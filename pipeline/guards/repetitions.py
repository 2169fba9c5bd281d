"""Phrases said over and over: a decoder that circles, not a speaker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Finding, Word


@dataclass(frozen=True, slots=True, order=True)
class _Loop:
    """A range of words made of one phrase that follows itself."""

    first: int
    end: int
    phrase_words: int

    @property
    def repeats(self) -> int:
        return (self.end - self.first) // self.phrase_words


def loops(words: Sequence[Word], config: GuardsConfig) -> list[Finding]:
    """Every run in which a phrase follows itself too often, by the shortest such phrase."""
    return [_finding(words, loop) for loop in _loops(words, config)]


def num_looped_words(words: Sequence[Word], config: GuardsConfig) -> int:
    """How many words stand in loops."""
    return sum(loop.end - loop.first for loop in _loops(words, config))


def _loops(words: Sequence[Word], config: GuardsConfig) -> list[_Loop]:
    texts = [_bare(word.text) for word in words]
    found: list[_Loop] = []
    for phrase_words in range(1, config.max_loop_words + 1):
        for loop in _repetitions(texts, phrase_words):
            is_long = loop.end - loop.first >= config.min_loop_words
            is_known = any(loop.first < one.end and one.first < loop.end for one in found)
            if is_long and not is_known and loop.repeats >= config.min_loop_repeats:
                found.append(loop)
    return sorted(found)


def _repetitions(texts: Sequence[str], phrase_words: int) -> Iterator[_Loop]:
    """Maximal runs in which every word equals the one a phrase before it."""
    first = None
    for index in range(phrase_words, len(texts) + 1):
        repeats = index < len(texts) and texts[index] == texts[index - phrase_words]
        if repeats and first is None:
            first = index - phrase_words
        elif not repeats and first is not None:
            yield _Loop(first, index, phrase_words)
            first = None


def _bare(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum()) or text


def _finding(words: Sequence[Word], loop: _Loop) -> Finding:
    phrase = " ".join(word.text for word in words[loop.first : loop.first + loop.phrase_words])
    end_s = max(word.end_s for word in words[loop.first : loop.end])
    detail = f'"{phrase}" {loop.repeats} times in a row'
    return Finding("loop", words[loop.first].start_s, end_s, detail)
