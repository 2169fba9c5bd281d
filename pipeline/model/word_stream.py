"""Words of a stream that still runs: the rule of `words`, one step at a time.

A word is known when its last piece is followed by padding or by the next word. Its end is known at
the next end of padding, or when the next word is known, or when the stream ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from nightscribe.model.word_timestamps import (
    BROKEN_CHARACTER,
    MAX_OPEN_END_S,
    WordReader,
    geometric_mean,
)


@dataclass(frozen=True, slots=True)
class WordBegin:
    """A word, its start and its confidence; its end is not known yet."""

    text: str
    start_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class WordEnd:
    """The end of the word before."""

    end_s: float


WordEvent = WordBegin | WordEnd


@dataclass(slots=True)
class _Run:
    """The pieces of a word."""

    steps: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)

    def add(self, step: int, token: int, probability: float) -> None:
        self.steps.append(step)
        self.tokens.append(token)
        self.probabilities.append(probability)

    def extend(self, other: "_Run") -> None:
        self.steps += other.steps
        self.tokens += other.tokens
        self.probabilities += other.probabilities


class WordStream:
    """Reads words from the tokens of one stream as they come."""

    def __init__(self, reader: WordReader, first_step: int = 0) -> None:
        """Words begun before `first_step` are left out."""
        self._reader, self._first_step = reader, first_step
        self._next_step = 0
        self._run = _Run()
        self._broken: _Run | None = None  # ends within a character that may go on
        self._open_end_s: float | None = None  # of the last word, while it has no end
        self._last_end_of_padding: int | None = None  # since the last word

    def read(self, token: int, probability: float) -> Iterator[WordEvent]:
        """What the output of the next step makes known."""
        step, self._next_step = self._next_step, self._next_step + 1
        reader = self._reader
        is_padding = token in (reader.padding_id, reader.end_of_padding_id)
        if self._run.steps and (is_padding or reader.tokenizer.begins_word(token)):
            yield from self._close_run()
        if not is_padding:
            self._run.add(step, token, probability)
        elif token == reader.end_of_padding_id and step >= self._first_step:
            yield from self._close_broken()
            yield from self._end_word(self._time_s(step))
            self._last_end_of_padding = step

    def end(self) -> Iterator[WordEvent]:
        """The stream ends: what is left."""
        if self._run.steps:
            yield from self._close_run()
        yield from self._close_broken()
        yield from self._end_open_word()

    def end_word(self) -> Iterator[WordEvent]:
        """End the last word now, if it is known and has no end yet."""
        yield from self._end_open_word()

    def _close_run(self) -> Iterator[WordEvent]:
        run, self._run = self._run, _Run()
        if run.steps[-1] + 1 < self._reader.times.delay_steps or run.steps[0] < self._first_step:
            return
        if self._broken is not None and not self._reader.tokenizer.begins_word(run.tokens[0]):
            self._broken.extend(run)
            run, self._broken = self._broken, None
        yield from self._close_broken()
        if self._text(run).endswith(BROKEN_CHARACTER):
            self._broken = run
        else:
            yield from self._begin_word(run)

    def _close_broken(self) -> Iterator[WordEvent]:
        broken, self._broken = self._broken, None
        if broken is not None:
            yield from self._begin_word(broken)

    def _begin_word(self, run: _Run) -> Iterator[WordEvent]:
        text = self._text(run)
        if not text:
            return
        before = self._last_end_of_padding
        start_s = self._time_s(run.steps[0] if before is None else before)
        yield from self._end_open_word(start_s)
        self._open_end_s = self._reader.times.time_s(run.steps[-1]) + MAX_OPEN_END_S
        self._last_end_of_padding = None
        yield WordBegin(text, start_s, geometric_mean(run.probabilities))

    def _end_word(self, end_s: float) -> Iterator[WordEvent]:
        if self._open_end_s is not None:
            yield WordEnd(end_s)
        self._open_end_s = None

    def _end_open_word(self, next_start_s: float = inf) -> Iterator[WordEvent]:
        """End the word before without an end of padding."""
        if self._open_end_s is not None:
            yield from self._end_word(max(min(self._open_end_s, next_start_s), 0.0))

    def _text(self, run: _Run) -> str:
        return self._reader.tokenizer.decode(run.tokens).strip()

    def _time_s(self, step: int) -> float:
        return max(self._reader.times.time_s(step), 0.0)
