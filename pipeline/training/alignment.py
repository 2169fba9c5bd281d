"""When the words of a known text are said: the model writes the text at times of its own choice.

The model hears the recording and may say nothing but the next token of the text, or silence; when
it chooses the token is when it heard the word.
"""

from collections.abc import Sequence

import numpy as np

from nightscribe.errors import NightscribeError
from nightscribe.model.sampling import Script
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.training.delayed_text import TextLayout, TimedTokens

# A word's end is not known; speech goes on for about so long after its beginning.
MAX_WORD_S = 0.8


class UnheardText(NightscribeError, ValueError):
    """The model came to the end of the sound before it had said the text."""


def align(
    model: SpeechToText, samples_N: np.ndarray, words: Sequence[Sequence[int]]
) -> tuple[TimedTokens, ...]:
    """Time each word, given as its tokens; UnheardText says that text and sound do not fit."""
    script = Script(prompt_tokens=tuple(token for word in words for token in word))
    said = model.hear(samples_N[None], [script]).tokens_SF[0].tolist()
    starts_s = _starts_s(said, words, TextLayout.of(model.config))
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
    said: Sequence[int], words: Sequence[Sequence[int]], layout: TextLayout
) -> list[float]:
    """Invert the layout: a word was announced at the position before its first token."""
    silent = (layout.padding_id, layout.end_of_padding_id)
    positions = [frame + 1 for frame, token in enumerate(said) if token not in silent]
    if len(positions) < sum(map(len, words)):
        raise UnheardText(f"only {len(positions)} of {sum(map(len, words))} tokens were heard")
    firsts = np.cumsum([0, *map(len, words)])[:-1]
    return [(positions[first] - layout.delay_steps) / layout.frame_rate_hz for first in firsts]
