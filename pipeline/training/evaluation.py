"""The word error rate of a model in training, on recordings it is not trained on.

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

MAX_BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class EvaluationClip:
    """A recording and its reference transcript."""

    samples_N: np.ndarray
    text: str
    prefix: tuple[int, ...] = ()


def word_error_rate(
    model: SpeechToText, tokenizer: Tokenizer, clips: Sequence[EvaluationClip]
) -> float:
    """Word errors over reference words, all clips together, with greedy sampling."""
    hypotheses: list[str] = []
    by_length = sorted(clips, key=lambda clip: len(clip.samples_N))
    for batch in _batches(by_length):
        longest = max(len(clip.samples_N) for clip in batch)
        samples_SN = np.stack([_padded(clip.samples_N, longest) for clip in batch])
        scripts = [TokenConstraints(forced_tokens=clip.prefix) for clip in batch]
        tokens_SF = model.transcribe(samples_SN, scripts).tokens_SF.tolist()
        for clip, tokens in zip(batch, tokens_SF, strict=True):
            hypotheses.append(
                written_text(tokens[max(len(clip.prefix) - 1, 0) :], model, tokenizer)
            )
    return jiwer.wer([clip.text for clip in by_length], hypotheses)


def written_text(tokens: Sequence[int], model: SpeechToText, tokenizer: Tokenizer) -> str:
    """The text of a stream of tokens, word by word."""
    language_model = model.config.language_model
    silent = (language_model.padding_id, language_model.end_of_padding_id)
    runs = groupby(tokens, key=lambda token: token in silent)
    words = (tokenizer.decode(list(run)).strip() for is_silent, run in runs if not is_silent)
    return " ".join(word for word in words if word)


def _batches(clips: Sequence[EvaluationClip]) -> Iterator[Sequence[EvaluationClip]]:
    for first in range(0, len(clips), MAX_BATCH_SIZE):
        yield clips[first : first + MAX_BATCH_SIZE]


def _padded(samples_N: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples_N, (0, length - len(samples_N)))
