"""Words that the model made up: over silence, all at one time, or one phrase again and again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.stalls import spoken_end_s, within
from nightscribe.records import Finding, Span, Word


def words_over_silence(
    words: Sequence[Word], speech: Sequence[Span], config: GuardsConfig
) -> list[Finding]:
    """Runs of words without any speech near them."""

    def is_silent(word: Word) -> bool:
        end_s = spoken_end_s(word, config.max_word_s) + config.collar_s
        return not any(within(speech, word.start_s - config.collar_s, end_s))

    runs = _runs(words, lambda before, word: is_silent(before) == is_silent(word))
    return [
        _hallucination(run, "over silence")
        for run in runs
        if is_silent(run[0]) and len(run) >= config.min_silent_words
    ]


def simultaneous_words(words: Sequence[Word], config: GuardsConfig) -> list[Finding]:
    """Runs of words that share one start and end, which no speaker can produce."""
    runs = _runs(
        words,
        lambda before, word: (before.start_s, before.end_s) == (word.start_s, word.end_s),
    )
    return [
        _hallucination(run, "at one time")
        for run in runs
        if len(run) >= config.min_simultaneous_words
    ]


def _runs(words: Sequence[Word], continues: Callable[[Word, Word], bool]) -> Iterator[list[Word]]:
    run: list[Word] = []
    for word in words:
        if run and not continues(run[-1], word):
            yield run
            run = []
        run.append(word)
    if run:
        yield run


def _hallucination(run: Sequence[Word], where: str) -> Finding:
    text = " ".join(word.text for word in run[:8]) + (" ..." if len(run) > 8 else "")
    end_s = max(word.end_s for word in run)
    return Finding("hallucination", run[0].start_s, end_s, f'{len(run)} words {where}: "{text}"')


@dataclass(frozen=True, slots=True, order=True)
class _Loop:
    """A range of words that repeats one phrase."""

    first: int
    end: int
    phrase_words: int

    @property
    def repeats(self) -> int:
        return (self.end - self.first) // self.phrase_words


def loops(words: Sequence[Word], config: GuardsConfig) -> list[Finding]:
    """Every run in which a phrase repeats too often, reported by the shortest such phrase."""
    return [_loop_finding(words, loop) for loop in _loops(words, config)]


def num_looped_words(words: Sequence[Word], config: GuardsConfig) -> int:
    """How many words are part of loops."""
    return sum(loop.end - loop.first for loop in _loops(words, config))


def _loops(words: Sequence[Word], config: GuardsConfig) -> list[_Loop]:
    texts = [_comparable(word.text) for word in words]
    found: list[_Loop] = []
    for phrase_words in range(1, config.max_loop_words + 1):
        for loop in _repeated_runs(texts, phrase_words):
            is_long = loop.end - loop.first >= config.min_loop_words
            is_covered = any(loop.first < one.end and one.first < loop.end for one in found)
            if is_long and not is_covered and loop.repeats >= config.min_loop_repeats:
                found.append(loop)
    return sorted(found)


def _repeated_runs(texts: Sequence[str], phrase_words: int) -> Iterator[_Loop]:
    """Maximal runs in which every word equals the word one phrase length before it."""
    first = None
    for index in range(phrase_words, len(texts) + 1):
        repeats = index < len(texts) and texts[index] == texts[index - phrase_words]
        if repeats and first is None:
            first = index - phrase_words
        elif not repeats and first is not None:
            yield _Loop(first, index, phrase_words)
            first = None


def _comparable(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum()) or text


def _loop_finding(words: Sequence[Word], loop: _Loop) -> Finding:
    phrase = " ".join(word.text for word in words[loop.first : loop.first + loop.phrase_words])
    end_s = max(word.end_s for word in words[loop.first : loop.end])
    detail = f'"{phrase}" {loop.repeats} times in a row'
    return Finding("loop", words[loop.first].start_s, end_s, detail)
