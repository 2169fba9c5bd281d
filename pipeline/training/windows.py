"""Training windows of a fixed length, cut and joined from utterances.

A model trained on single whole sentences learns neither pauses, nor cut-off starts, nor unexpected
words. So utterances are joined with gaps of all lengths, may start in the middle, and are sometimes
spliced from runs of words.

N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nightscribe.options import check_options, option
from nightscribe.training.targets import TimedTokens

MAX_RUN_WORDS = 5
FADE_S = 0.005
# A word whose start is cut off by more than this is not a target.
MAX_CUT_S = 0.04
# At least this share of a word must be inside the window to be a target.
MIN_WORD_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech and its words, timed from its first sample; `domain` selects the forced prefix."""

    samples_N: np.ndarray
    words: tuple[TimedTokens, ...]
    domain: str | None = None


class Window(NamedTuple):
    """The audio of one row of a batch, and its words."""

    samples_N: np.ndarray
    words: tuple[TimedTokens, ...]
    domain: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """How utterances are joined into training windows."""

    window_s: float = option(12.0, "length of a training window", above=0, common=True)
    splice_rate: float = option(
        0.2, "share of utterances that are spliced from runs of words", minimum=0, maximum=1
    )
    cut_rate: float = option(
        0.4, "share of windows that begin in the middle of an utterance", minimum=0, maximum=1
    )
    silent_rate: float = option(0.05, "share of windows without speech", minimum=0, maximum=1)
    max_speed: float = option(
        1.14, "utterances are played up to this much faster or slower", minimum=1
    )

    def __post_init__(self) -> None:
        check_options(self, "windows")


class WindowSampler:
    """Draws windows from utterances; equal generators draw equal windows."""

    def __init__(
        self, utterances: Sequence[Utterance], sample_rate_hz: int, config: WindowConfig
    ) -> None:
        if not utterances:
            raise ValueError("windows need at least one utterance")
        self.utterances = utterances
        self.sample_rate_hz = sample_rate_hz
        self.config = config
        self.num_samples = round(config.window_s * sample_rate_hz)

    def draw(self, rng: np.random.Generator) -> Window:
        """One window; all its utterances are of one domain."""
        window_N = np.zeros(self.num_samples, dtype=np.float32)
        if rng.random() < self.config.silent_rate:
            return Window(window_N, (), None)
        first = _any_of(self.utterances, rng)
        companions = [u for u in self.utterances if u.domain == first.domain]
        words: list[TimedTokens] = []
        next_utterance, start = first, self._first_start(first, rng)
        while start < self.num_samples:
            varied = self._varied(next_utterance, companions, rng)
            _mix_in(varied.samples_N, window_N, start)
            words += _moved(varied.words, start / self.sample_rate_hz)
            start += len(varied.samples_N) + self._gap(rng)
            next_utterance = _any_of(companions, rng)
        return Window(window_N, self._target_words(words), first.domain)

    def _first_start(self, utterance: Utterance, rng: np.random.Generator) -> int:
        if rng.random() < self.config.cut_rate:
            longest_cut = min(2 * self.sample_rate_hz, int(0.8 * len(utterance.samples_N)))
            return -int(rng.uniform(0, longest_cut))
        return int(rng.uniform(0, 1) * self.sample_rate_hz)

    def _gap(self, rng: np.random.Generator) -> int:
        """Mostly a short gap, sometimes a second or so, rarely a long pause."""
        seconds = (rng.uniform(0, 0.5), rng.exponential(0.8), rng.uniform(0.5, 5))
        return int(seconds[rng.choice(3, p=(0.45, 0.4, 0.15))] * self.sample_rate_hz)

    def _varied(
        self, utterance: Utterance, companions: Sequence[Utterance], rng: np.random.Generator
    ) -> Utterance:
        if rng.random() < self.config.splice_rate:
            utterance = self._spliced(companions, rng)
        speed = float(np.exp(rng.uniform(-1, 1) * np.log(self.config.max_speed)))
        return played_at(utterance, speed)

    def _spliced(self, companions: Sequence[Utterance], rng: np.random.Generator) -> Utterance:
        runs = []
        for _ in range(rng.integers(2, 6)):
            runs.append(self._run(_any_of(companions, rng), rng))
        starts = np.cumsum([0, *(len(run.samples_N) for run in runs[:-1])])
        samples_N = np.concatenate([run.samples_N for run in runs])
        words = [
            word
            for run, start in zip(runs, starts, strict=True)
            for word in _moved(run.words, start / self.sample_rate_hz)
        ]
        return Utterance(samples_N, tuple(words), runs[0].domain)

    def _run(self, utterance: Utterance, rng: np.random.Generator) -> Utterance:
        """A few consecutive words of an utterance, faded in and out."""
        if not utterance.words:
            return utterance
        length = min(len(utterance.words), int(rng.integers(1, MAX_RUN_WORDS + 1)))
        first = int(rng.integers(len(utterance.words) - length + 1))
        words = utterance.words[first : first + length]
        start = int(words[0].start_s * self.sample_rate_hz)
        end = int(words[-1].end_s * self.sample_rate_hz)
        samples_N = _faded(utterance.samples_N[start:end], int(FADE_S * self.sample_rate_hz))
        moved = tuple(_moved(words, -start / self.sample_rate_hz))
        return Utterance(samples_N, moved, utterance.domain)

    def _target_words(self, words: Sequence[TimedTokens]) -> tuple[TimedTokens, ...]:
        last_s = self.num_samples / self.sample_rate_hz
        return tuple(
            word
            for word in words
            if word.start_s >= -MAX_CUT_S
            and word.start_s + MIN_WORD_SHARE * (word.end_s - word.start_s) < last_s
        )


def played_at(utterance: Utterance, speed: float) -> Utterance:
    """The utterance played faster by this factor, which also raises its pitch."""
    num_samples = int(len(utterance.samples_N) / speed)
    places = np.arange(num_samples) * speed
    samples_N = np.interp(places, np.arange(len(utterance.samples_N)), utterance.samples_N)
    words = tuple(
        replace(word, start_s=word.start_s / speed, end_s=word.end_s / speed)
        for word in utterance.words
    )
    return Utterance(samples_N.astype(np.float32), words, utterance.domain)


def _any_of(utterances: Sequence[Utterance], rng: np.random.Generator) -> Utterance:
    return utterances[int(rng.integers(len(utterances)))]


def _moved(words: Sequence[TimedTokens], by_s: float) -> list[TimedTokens]:
    return [replace(w, start_s=w.start_s + by_s, end_s=w.end_s + by_s) for w in words]


def _mix_in(samples_N: np.ndarray, window_N: np.ndarray, start: int) -> None:
    """Add the part inside the window, in place."""
    first, end = max(start, 0), min(start + len(samples_N), len(window_N))
    if first < end:
        window_N[first:end] += samples_N[first - start : end - start]


def _faded(samples_N: np.ndarray, fade: int) -> np.ndarray:
    faded_N = samples_N.astype(np.float32)
    fade = min(fade, len(faded_N) // 2)
    if fade:
        faded_N[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        faded_N[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return faded_N
