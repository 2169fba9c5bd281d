"""From the tokens a stream said to words with times.

Between words the model says padding; one step before a word's first piece it says an end of
padding. Pieces close to a word at the next padding or end of padding, or where a piece brings its
own space. A word starts at the end of padding before it, or at its first piece where there is none;
it ends at the end of padding after it, or where the next word starts, or soon after its last piece.

Knows no tensors, files or models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, fsum, inf, log
from typing import Protocol

from nightscribe.records import Word

MAX_OPEN_END_S = 1.0  # after the last piece of a word that nothing ends
BROKEN_CHARACTER = "\ufffd"  # what some bytes of a longer character decode to


class Tokenizer(Protocol):
    """What is asked of a tokenizer here."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    def begins_word(self, token: int) -> bool:
        """Whether a space stands before this token."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTimes:
    """Which moment of a recording a step speaks of."""

    frame_rate_hz: float
    delay_steps: int
    prefix_frames: int = 0

    def time_s(self, step: int) -> float:
        """The moment a token speaks of; negative for what lies before the recording."""
        return (step + 1 - self.delay_steps - self.prefix_frames) / self.frame_rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class WordReader:
    """Reads what a stream said."""

    tokenizer: Tokenizer
    times: TokenTimes
    padding_id: int = 3
    end_of_padding_id: int = 0

    def read(
        self,
        tokens_T: Sequence[int],
        probabilities_T: Sequence[float],
        duration_s: float,
        first_step: int = 0,
    ) -> list[Word]:
        """Words in order, inside the recording; those begun before `first_step` are left out."""
        said = [int(token) for token in tokens_T]
        written = [
            (steps, text)
            for steps in self._pieces_of_words(said, first_step)
            if (text := self._text(said, steps))
        ]
        spans_s = self._spans_s(said, [steps for steps, _ in written], first_step)
        return [
            Word(
                text,
                _clamped(start_s, duration_s),
                _clamped(end_s, duration_s),
                _geometric_mean([float(probabilities_T[step]) for step in steps]),
            )
            for (steps, text), (start_s, end_s) in zip(written, spans_s, strict=True)
        ]

    def _pieces_of_words(self, said: list[int], first_step: int) -> Iterator[list[int]]:
        """The steps of each word that begins at this step or later."""
        before: list[int] = []
        for steps in self._runs(said):
            if steps[0] < first_step:
                continue
            if before and self._is_torn(said, before, steps):
                before += steps
                continue
            if before:
                yield before
            before = steps
        if before:
            yield before

    def _runs(self, said: list[int]) -> Iterator[list[int]]:
        """Steps between paddings, those of words without padding between them apart."""
        run: list[int] = []
        for step in range(len(said)):
            is_silent = said[step] in (self.padding_id, self.end_of_padding_id)
            if run and (is_silent or self.tokenizer.begins_word(said[step])):
                yield from self._heard(run)
                run = []
            if not is_silent:
                run.append(step)
        yield from self._heard(run)

    def _heard(self, run: list[int]) -> Iterator[list[int]]:
        """The run, unless it closed before the model can have heard anything."""
        if run and run[-1] + 1 >= self.times.delay_steps:
            yield run

    def _is_torn(self, said: list[int], before: list[int], steps: list[int]) -> bool:
        """Whether a padding fell between the bytes of one character."""
        between = said[before[-1] + 1 : steps[0]]
        return (
            self.end_of_padding_id not in between
            and not self.tokenizer.begins_word(said[steps[0]])
            and self._text(said, before).endswith(BROKEN_CHARACTER)
        )

    def _text(self, said: list[int], steps: list[int]) -> str:
        return self.tokenizer.decode([said[step] for step in steps]).strip()

    def _spans_s(
        self, said: list[int], words: list[list[int]], first_step: int
    ) -> list[tuple[float, float]]:
        """From where to where each word lasts, given the steps of all words."""
        time_s = self.times.time_s
        before = [first_step - 1, *(steps[-1] for steps in words)]
        after = [*(steps[0] for steps in words[1:]), len(said)]
        starts_s = []
        for steps, last_before in zip(words, before, strict=False):
            ends_of_padding = self._ends_of_padding(said, last_before + 1, steps[0])
            starts_s.append(time_s(ends_of_padding[-1] if ends_of_padding else steps[0]))
        ends_s = []
        for steps, first_after, next_s in zip(words, after, [*starts_s[1:], inf], strict=False):
            ends_of_padding = self._ends_of_padding(said, steps[-1] + 1, first_after)
            open_end_s = min(time_s(steps[-1]) + MAX_OPEN_END_S, next_s)
            ends_s.append(time_s(ends_of_padding[0]) if ends_of_padding else open_end_s)
        return list(zip(starts_s, ends_s, strict=True))

    def _ends_of_padding(self, said: list[int], first: int, end: int) -> list[int]:
        return [step for step in range(first, end) if said[step] == self.end_of_padding_id]


def _clamped(time_s: float, duration_s: float) -> float:
    return min(max(time_s, 0.0), duration_s)


def _geometric_mean(probabilities: list[float]) -> float:
    if min(probabilities) <= 0:
        return 0.0
    return exp(fsum(map(log, probabilities)) / len(probabilities))
