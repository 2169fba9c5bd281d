"""Forced alignment: the times of the words of a known text, found by the model itself.

The model transcribes the recording but may sample only padding or the next token of the text; the
step at which it samples a token gives the time of the word.
"""

from collections.abc import Sequence

import numpy as np

from nightscribe.errors import NightscribeError
from nightscribe.model.sampling import TokenConstraints
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.training.targets import TextLayout, TimedTokens

# The end of a word is not known; it is set at most this long after its start.
MAX_WORD_S = 0.8


class AlignmentError(NightscribeError, ValueError):
    """The audio ended before all tokens of the text were sampled."""


def align(
    model: SpeechToText, samples_N: np.ndarray, words: Sequence[Sequence[int]]
) -> tuple[TimedTokens, ...]:
    """Time each word, given as its tokens; raise AlignmentError if text and audio do not match."""
    script = TokenConstraints(prompt_tokens=tuple(token for word in words for token in word))
    sampled = model.transcribe(samples_N[None], [script]).tokens_SF[0].tolist()
    starts_s = _starts_s(sampled, words, TextLayout.of(model.config))
    prefix_s = model.config.prefix_frames / model.config.mimi.frame_rate_hz
    duration_s = len(samples_N) / model.config.mimi.sample_rate_hz
    starts_s = [min(max(start_s - prefix_s, 0.0), duration_s) for start_s in starts_s]
    ends_s = [
        min(s + MAX_WORD_S, e) for s, e in zip(starts_s, [*starts_s[1:], duration_s], strict=True)
    ]
    return tuple(
        TimedTokens(tuple(tokens), start_s, max(start_s, end_s))
        for tokens, start_s, end_s in zip(words, starts_s, ends_s, strict=True)
    )


def _starts_s(
    tokens: Sequence[int], words: Sequence[Sequence[int]], layout: TextLayout
) -> list[float]:
    """Invert the layout: a word is announced at the position before its first token."""
    silent = (layout.padding_id, layout.end_of_padding_id)
    positions = [frame + 1 for frame, token in enumerate(tokens) if token not in silent]
    num_tokens = sum(map(len, words))
    if len(positions) < num_tokens:
        raise AlignmentError(f"alignment failed: {len(positions)} of {num_tokens} tokens matched")
    firsts = np.cumsum([0, *map(len, words)])[:-1]
    return [(positions[first] - layout.delay_steps) / layout.frame_rate_hz for first in firsts]
