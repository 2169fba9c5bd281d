"""How well a model in training transcribes recordings it does not learn from.

S recordings, N samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import jiwer
import numpy as np

from nightscribe.model.sampling import TokenConstraints
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.training.dataset import Tokenizer

MAX_HEARD_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class DevelopmentClip:
    """A recording and what is really said in it."""

    samples_N: np.ndarray
    text: str
    prefix: tuple[int, ...] = ()


def word_error_rate(
    model: SpeechToText, tokenizer: Tokenizer, clips: Sequence[DevelopmentClip]
) -> float:
    """Word errors over words, all clips together, greedily decoded."""
    heard: list[str] = []
    by_length = sorted(clips, key=lambda clip: len(clip.samples_N))
    for batch in _batches(by_length):
        longest = max(len(clip.samples_N) for clip in batch)
        samples_SN = np.stack([_lengthened(clip.samples_N, longest) for clip in batch])
        scripts = [TokenConstraints(forced_tokens=clip.prefix) for clip in batch]
        tokens_SF = model.transcribe(samples_SN, scripts).tokens_SF.tolist()
        for clip, tokens in zip(batch, tokens_SF, strict=True):
            heard.append(written_text(tokens[max(len(clip.prefix) - 1, 0) :], model, tokenizer))
    return jiwer.wer([clip.text for clip in by_length], heard)


def written_text(tokens: Sequence[int], model: SpeechToText, tokenizer: Tokenizer) -> str:
    """What a stream of tokens says, word by word."""
    language_model = model.config.language_model
    silent = (language_model.padding_id, language_model.end_of_padding_id)
    runs = groupby(tokens, key=lambda token: token in silent)
    words = (tokenizer.decode(list(run)).strip() for is_silent, run in runs if not is_silent)
    return " ".join(word for word in words if word)


def _batches(clips: Sequence[DevelopmentClip]) -> Iterator[Sequence[DevelopmentClip]]:
    for first in range(0, len(clips), MAX_HEARD_AT_ONCE):
        yield clips[first : first + MAX_HEARD_AT_ONCE]


def _lengthened(samples_N: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples_N, (0, length - len(samples_N)))
