"""Words where nobody speaks: made up, not heard."""

from collections.abc import Callable, Iterator, Sequence

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.spans import spoken_end_s, within
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
        _finding(run, "over silence")
        for run in runs
        if is_silent(run[0]) and len(run) >= config.min_silent_words
    ]


def simultaneous_words(words: Sequence[Word], config: GuardsConfig) -> list[Finding]:
    """Runs of words that share one start and end: nobody can say that."""
    runs = _runs(
        words,
        lambda before, word: (before.start_s, before.end_s) == (word.start_s, word.end_s),
    )
    return [
        _finding(run, "at one time") for run in runs if len(run) >= config.min_simultaneous_words
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


def _finding(run: Sequence[Word], where: str) -> Finding:
    text = " ".join(word.text for word in run[:8]) + (" ..." if len(run) > 8 else "")
    end_s = max(word.end_s for word in run)
    return Finding("hallucination", run[0].start_s, end_s, f'{len(run)} words {where}: "{text}"')
