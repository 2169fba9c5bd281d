"""Prompts: what a model gets before a recording, and how the recording's words are read after them.

A domain is set by forced first tokens. A prompt's text is output at steps the model chooses, while
nothing else is allowed; a prompt's audio comes before the recording, with a short silence between.
The output for the prompt is not part of the transcript.

N samples, T steps, H VAD heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Protocol

import numpy as np

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.sampling import TokenConstraints
from nightscribe.model.tokenizer import Tokenizer
from nightscribe.model.word_stream import WordStream
from nightscribe.model.word_timestamps import TokenTimes, VadTimes, WordReader, turn_ends_s
from nightscribe.records import Word

SEPARATOR_FRAMES = 10  # of silence between a prompt's audio and the recording


class PromptDomain(Protocol):
    """A kind of recording that the model was trained to distinguish by first tokens."""

    def first_tokens(self, padding_id: int) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """What a model gets before a recording: any of a domain, a text and audio."""

    domain: str | None = None
    text: str = ""
    samples_N: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechProcessor:
    """Prepares the input of one checkpoint and reads words from its output."""

    config: SpeechToTextConfig
    tokenizer: Tokenizer
    domains: Mapping[str, PromptDomain] = field(default_factory=dict)
    default_domain: str | None = None

    def prompt(self, domain: str | None = None) -> Prompt:
        """The prompt of a recording of this domain, or of the model's default one."""
        return Prompt(domain=domain or self.default_domain)

    def constraints(self, prompt: Prompt) -> TokenConstraints:
        """What the stream must output."""
        return TokenConstraints(
            forced_tokens=self._first_tokens(prompt),
            prompt_tokens=tuple(self.tokenizer.encode(prompt.text)) if prompt.text.strip() else (),
        )

    def input_samples(self, samples_N: np.ndarray, prompt: Prompt) -> np.ndarray:
        """The prompt's audio, a silence, and the recording."""
        if not len(prompt.samples_N):
            return samples_N
        lead_N = np.zeros(self._lead_frames(prompt) * self.config.mimi.frame_samples, np.int16)
        lead_N[: len(prompt.samples_N)] = prompt.samples_N
        return np.concatenate([lead_N, samples_N])

    def words(
        self,
        tokens_T: Sequence[int],
        probabilities_T: Sequence[float],
        num_samples: int,
        prompt: Prompt | None = None,
    ) -> list[Word]:
        """The words of a recording of `num_samples`, timed from its start; none of the prompt's."""
        prompt = prompt or self.prompt()
        return self._reader(prompt).read(
            tokens_T,
            probabilities_T,
            duration_s=num_samples / self.config.mimi.sample_rate_hz,
            first_step=self._first_step(tokens_T, prompt),
        )

    def word_stream(self, prompt: Prompt, prefix_frames: int) -> WordStream:
        """Reads the words of a stream that still runs, timed from the end of its prefix."""
        reader = self._reader(prompt)
        times = replace(reader.times, prefix_frames=prefix_frames)
        return WordStream(replace(reader, times=times), len(self._first_tokens(prompt)))

    def turn_ends_s(
        self, vad_TH: np.ndarray, words: Sequence[Word], num_samples: int, prompt: Prompt
    ) -> list[float]:
        """Where the VAD heads predict the end of a turn, in seconds of the recording."""
        mimi = self.config.mimi
        times = VadTimes(
            frame_rate_hz=mimi.frame_rate_hz,
            lead_frames=self.config.prefix_frames + self._lead_frames(prompt),
        )
        return turn_ends_s(vad_TH, words, times, num_samples / mimi.sample_rate_hz)

    def _reader(self, prompt: Prompt) -> WordReader:
        times = TokenTimes(
            frame_rate_hz=self.config.mimi.frame_rate_hz,
            delay_steps=self.config.delay_steps,
            prefix_frames=self.config.prefix_frames + self._lead_frames(prompt),
        )
        return WordReader(
            tokenizer=self.tokenizer,
            times=times,
            padding_id=self.config.language_model.padding_id,
            end_of_padding_id=self.config.language_model.end_of_padding_id,
        )

    def _first_step(self, tokens_T: Sequence[int], prompt: Prompt) -> int:
        """The first step that can begin a word of the recording."""
        constraints = self.constraints(prompt)
        after_audio = 0
        if len(prompt.samples_N):
            lead_frames = self.config.prefix_frames + self._lead_frames(prompt)
            # In the middle of the silence: the model's delay is not always exactly the same.
            after_audio = lead_frames + self.config.delay_steps - SEPARATOR_FRAMES // 2
        after_text = _end_of(constraints.prompt_tokens, tokens_T)
        return max(len(constraints.forced_tokens), after_audio, after_text)

    def _lead_frames(self, prompt: Prompt) -> int:
        """Frames between the model's own prefix and the recording."""
        if not len(prompt.samples_N):
            return 0
        return ceil(len(prompt.samples_N) / self.config.mimi.frame_samples) + SEPARATOR_FRAMES

    def _first_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.domain is None:
            return ()
        if prompt.domain not in self.domains:
            known = f"it knows {', '.join(self.domains)}" if self.domains else "it knows none"
            raise ValueError(f"the model knows no domain {prompt.domain!r}; {known}")
        return self.domains[prompt.domain].first_tokens(self.config.language_model.padding_id)


def _end_of(prompt_tokens: tuple[int, ...], tokens_T: Sequence[int]) -> int:
    """The step after the last token of a prompt."""
    remaining = iter(prompt_tokens)
    next_token = next(remaining, None)
    for step, token in enumerate(tokens_T):
        if next_token is None:
            return step
        if int(token) == next_token:
            next_token = next(remaining, None)
    return len(tokens_T)
