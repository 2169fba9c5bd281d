"""Examples to utterances: decoded, tokenised, and timed where the manifest does not say when."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from nightscribe.model.speech_to_text import FULL_SCALE, SpeechToText
from nightscribe.model.tokenizer import Tokenizer
from nightscribe.training.alignment import UnheardText, align
from nightscribe.training.delayed_text import TimedTokens
from nightscribe.training.examples import Example
from nightscribe.training.windows import Utterance

logger = logging.getLogger(__name__)

Decode = Callable[[Path], np.ndarray]  # a whole file as int16 samples at the model's rate


def samples_of(examples: Iterable[Example], decode: Decode, rate_hz: int) -> Iterator[np.ndarray]:
    """Each example's own samples; neighbours from one file decode it once."""
    decoded: tuple[Path, np.ndarray] | None = None
    for example in examples:
        if decoded is None or decoded[0] != example.path:
            decoded = (example.path, decode(example.path))
        end = None if example.end_s is None else round(example.end_s * rate_hz)
        samples_N = decoded[1][round(example.start_s * rate_hz) : end]
        if not len(samples_N):
            raise ValueError(f"{example.path} ends before {example.start_s} s")
        yield samples_N


def utterances_of(
    examples: list[Example], decode: Decode, tokenizer: Tokenizer, aligner: SpeechToText
) -> list[Utterance]:
    """What windows are made of; examples whose text does not fit their sound are left out."""
    rate_hz = aligner.config.mimi.sample_rate_hz
    utterances = []
    for example, samples_N in zip(examples, samples_of(examples, decode, rate_hz), strict=True):
        try:
            words = timed_tokens(example, samples_N, tokenizer, aligner)
        except UnheardText as error:
            logger.warning("%s is left out: %s", example.path, error)
            continue
        sound_N = samples_N.astype(np.float32) / FULL_SCALE
        utterances.append(Utterance(sound_N, words, example.domain))
    return utterances


def timed_tokens(
    example: Example, samples_N: np.ndarray, tokenizer: Tokenizer, aligner: SpeechToText
) -> tuple[TimedTokens, ...]:
    """The words of an example as tokens with times: the manifest's, or else the model's."""
    if example.words is None:
        return align(aligner, samples_N, _tokens_of(example, example.text.split(), tokenizer))
    texts = [word.text for word in example.words]
    return tuple(
        TimedTokens(tokens, word.start_s, word.end_s)
        for word, tokens in zip(example.words, _tokens_of(example, texts, tokenizer), strict=True)
    )


def _tokens_of(example: Example, texts: list[str], tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """Each word by itself; refuses what this vocabulary cannot write."""
    tokens = [tuple(tokenizer.encode(text)) for text in texts]
    for text, written in zip(texts, tokens, strict=True):
        if "".join(tokenizer.decode(list(written)).split()) != "".join(text.split()):
            raise ValueError(f"{example.path}: the model's vocabulary cannot write {text!r}")
    return tokens
