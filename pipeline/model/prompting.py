"""How a model is spoken to before it hears a recording, and how its answer is read.

A domain is told by first tokens that the stream is made to say. A prompt's text is said at times
of the model's own choice while nothing else may be; a prompt's sound is heard before the recording,
with a short silence between. What is said of the prompt is no part of the answer.

N samples, T steps, H extra heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

import numpy as np

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.end_of_turn import HeadTimes, turn_ends_s
from nightscribe.model.sampling import Script
from nightscribe.model.words import TokenTimes, WordReader
from nightscribe.records import Word

SEPARATOR_FRAMES = 10  # of silence between a prompt's sound and the recording


class Tokenizer(Protocol):
    """What is asked of a tokenizer here."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def begins_word(self, token: int) -> bool: ...


class Domain(Protocol):
    """A kind of recordings that the model was trained to be told of."""

    def first_tokens(self, padding_id: int) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """What a model is told before a recording: any of a domain, a text and a sound."""

    domain: str | None = None
    text: str = ""
    samples_N: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """Speaks to one checkpoint and reads its answers."""

    config: SpeechToTextConfig
    tokenizer: Tokenizer
    domains: Mapping[str, Domain] = field(default_factory=dict)
    default_domain: str | None = None

    def prompt(self, domain: str | None = None) -> Prompt:
        """What is said before a recording of this domain, or of the model's usual one."""
        return Prompt(domain=domain or self.default_domain)

    def script(self, prompt: Prompt) -> Script:
        """What the stream has to say."""
        return Script(
            forced_tokens=self._first_tokens(prompt),
            prompt_tokens=tuple(self.tokenizer.encode(prompt.text)) if prompt.text.strip() else (),
        )

    def heard_samples(self, samples_N: np.ndarray, prompt: Prompt) -> np.ndarray:
        """The prompt's sound, a silence, and the recording."""
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
        """The words of a recording of so many samples, in seconds of it; none of the prompt's."""
        prompt = prompt or self.prompt()
        return self._reader(prompt).read(
            tokens_T,
            probabilities_T,
            duration_s=num_samples / self.config.mimi.sample_rate_hz,
            first_step=self._first_step(tokens_T, prompt),
        )

    def turn_ends_s(
        self, quiet_TH: np.ndarray, words: Sequence[Word], num_samples: int, prompt: Prompt
    ) -> list[float]:
        """Where the model hears a speaker finish, in seconds of the recording."""
        mimi = self.config.mimi
        times = HeadTimes(
            frame_rate_hz=mimi.frame_rate_hz,
            lead_frames=self.config.prefix_frames + self._lead_frames(prompt),
        )
        return turn_ends_s(quiet_TH, words, times, num_samples / mimi.sample_rate_hz)

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
        script = self.script(prompt)
        after_sound = 0
        if len(prompt.samples_N):
            lead_frames = self.config.prefix_frames + self._lead_frames(prompt)
            # In the middle of the silence: the model is not always late by the same steps.
            after_sound = lead_frames + self.config.delay_steps - SEPARATOR_FRAMES // 2
        return max(len(script.forced_tokens), after_sound, _end_of(script.prompt_tokens, tokens_T))

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
    """The step after the last token of a prompt was said."""
    due = iter(prompt_tokens)
    awaited = next(due, None)
    for step, token in enumerate(tokens_T):
        if awaited is None:
            return step
        if int(token) == awaited:
            awaited = next(due, None)
    return len(tokens_T)
