"""From the output of a stream to words with times, and to the ends of turns.

Between words the model outputs padding; one step before a word's first piece it outputs an end of
padding. A word ends at the next padding or end of padding, or where a piece begins with a space. It
starts at the end of padding before it, or at its first piece if there is none; it ends at the end
of padding after it, or where the next word starts, or soon after its last piece.

Each VAD head predicts a pause: the probability that nobody speaks within its horizon.

Knows no tensors, files or models. T steps, H VAD heads.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, fsum, inf, log

import numpy as np

from nightscribe.model.tokenizer import Tokenizer
from nightscribe.records import Word

MAX_OPEN_END_S = 1.0  # after the last piece of a word without an end of padding
BROKEN_CHARACTER = "\ufffd"  # what some bytes of a longer character decode to
TURN_HEAD = 2  # of the horizons 0.5, 1, 2 and 3 s the one that is neither too early nor too late
TURN_THRESHOLD = 0.5
VAD_WARM_UP_STEPS = 12  # the heads are unreliable in the first second


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTimes:
    """Which moment of a recording the token of a step belongs to."""

    frame_rate_hz: float
    delay_steps: int
    prefix_frames: int = 0

    def time_s(self, step: int) -> float:
        """The moment of a token; negative before the recording."""
        return (step + 1 - self.delay_steps - self.prefix_frames) / self.frame_rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class WordReader:
    """Reads the words from a stream's tokens."""

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
        """Words in order, within the recording; those begun before `first_step` are left out."""
        tokens = [int(token) for token in tokens_T]
        spelled = [
            (steps, text)
            for steps in self._pieces_of_words(tokens, first_step)
            if (text := self._text(tokens, steps))
        ]
        spans_s = self._spans_s(tokens, [steps for steps, _ in spelled], first_step)
        return [
            Word(
                text,
                _clamped(start_s, duration_s),
                _clamped(end_s, duration_s),
                geometric_mean([float(probabilities_T[step]) for step in steps]),
            )
            for (steps, text), (start_s, end_s) in zip(spelled, spans_s, strict=True)
        ]

    def _pieces_of_words(self, tokens: list[int], first_step: int) -> Iterator[list[int]]:
        """The steps of each word that begins at this step or later."""
        before: list[int] = []
        for steps in self._runs(tokens):
            if steps[0] < first_step:
                continue
            if before and self._splits_character(tokens, before, steps):
                before += steps
                continue
            if before:
                yield before
            before = steps
        if before:
            yield before

    def _runs(self, tokens: list[int]) -> Iterator[list[int]]:
        """Runs of steps between paddings; words without padding between them are separate runs."""
        run: list[int] = []
        for step in range(len(tokens)):
            is_padding = tokens[step] in (self.padding_id, self.end_of_padding_id)
            if run and (is_padding or self.tokenizer.begins_word(tokens[step])):
                yield from self._if_possible(run)
                run = []
            if not is_padding:
                run.append(step)
        yield from self._if_possible(run)

    def _if_possible(self, run: list[int]) -> Iterator[list[int]]:
        """The run, unless it ended before the model can have had any audio of it."""
        if run and run[-1] + 1 >= self.times.delay_steps:
            yield run

    def _splits_character(self, tokens: list[int], before: list[int], steps: list[int]) -> bool:
        """Whether a padding came between the bytes of one character."""
        between = tokens[before[-1] + 1 : steps[0]]
        return (
            self.end_of_padding_id not in between
            and not self.tokenizer.begins_word(tokens[steps[0]])
            and self._text(tokens, before).endswith(BROKEN_CHARACTER)
        )

    def _text(self, tokens: list[int], steps: list[int]) -> str:
        return self.tokenizer.decode([tokens[step] for step in steps]).strip()

    def _spans_s(
        self, tokens: list[int], words: list[list[int]], first_step: int
    ) -> list[tuple[float, float]]:
        """Start and end of each word, given the steps of all words."""
        time_s = self.times.time_s
        before = [first_step - 1, *(steps[-1] for steps in words)]
        after = [*(steps[0] for steps in words[1:]), len(tokens)]
        starts_s = []
        for steps, last_before in zip(words, before, strict=False):
            ends_of_padding = self._ends_of_padding(tokens, last_before + 1, steps[0])
            starts_s.append(time_s(ends_of_padding[-1] if ends_of_padding else steps[0]))
        ends_s = []
        for steps, first_after, next_s in zip(words, after, [*starts_s[1:], inf], strict=False):
            ends_of_padding = self._ends_of_padding(tokens, steps[-1] + 1, first_after)
            open_end_s = min(time_s(steps[-1]) + MAX_OPEN_END_S, next_s)
            ends_s.append(time_s(ends_of_padding[0]) if ends_of_padding else open_end_s)
        return list(zip(starts_s, ends_s, strict=True))

    def _ends_of_padding(self, tokens: list[int], first: int, end: int) -> list[int]:
        return [step for step in range(first, end) if tokens[step] == self.end_of_padding_id]


def _clamped(time_s: float, duration_s: float) -> float:
    return min(max(time_s, 0.0), duration_s)


def geometric_mean(probabilities: Sequence[float]) -> float:
    """The confidence of a word from those of its pieces."""
    if min(probabilities) <= 0:
        return 0.0
    return exp(fsum(map(log, probabilities)) / len(probabilities))


@dataclass(frozen=True, slots=True, kw_only=True)
class VadTimes:
    """Which moment of the recording a step has reached: at step p the model has p frames."""

    frame_rate_hz: float
    lead_frames: int  # before the recording

    def time_s(self, step: int) -> float:
        return (step - self.lead_frames) / self.frame_rate_hz


def turn_ends_s(
    vad_TH: np.ndarray, words: Sequence[Word], times: VadTimes, duration_s: float
) -> list[float]:
    """When the VAD head begins to predict a pause, at most once after each run of words."""
    if vad_TH.shape[1] <= TURN_HEAD:
        return []
    is_pause_T = vad_TH[:, TURN_HEAD] > TURN_THRESHOLD
    is_pause_T[:VAD_WARM_UP_STEPS] = True
    pauses_s = [
        times.time_s(step)
        for step, (before, now) in enumerate(pairwise(is_pause_T.tolist()), start=1)
        if now and not before
    ]
    inside_s = [time_s for time_s in pauses_s if 0 <= time_s <= duration_s]
    return _after_words(inside_s, [word.start_s for word in words])


def _after_words(times_s: Sequence[float], starts_s: Sequence[float]) -> list[float]:
    """The times that have a word's start between them and the last one returned."""
    result: list[float] = []
    num_words = 0
    for time_s in times_s:
        num_words_now = bisect_right(starts_s, time_s)
        if num_words_now > num_words:
            result.append(time_s)
            num_words = num_words_now
    return result
