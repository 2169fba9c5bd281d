"""Takes loud music and noise out of the speech that the level of the sound suggests.

Only where the model wrote no words does anybody ask: there a network says whether somebody speaks.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.stalls import stalls
from nightscribe.records import Span, Word

# Pieces of a stall are asked about one by one: somebody may speak before or after the music.
PIECE_S = 10.0

# From pieces of sound to the share of each in which somebody speaks.
Hearing = Callable[[list[NDArray[np.int16]]], list[float]]


def confirmed_speech(
    samples_N: NDArray[np.int16],
    sample_rate_hz: int,
    words: Sequence[Word],
    speech: Sequence[Span],
    config: GuardsConfig,
    hearing: Hearing,
) -> tuple[Span, ...]:
    """The speech without the pieces of stalls in which nobody is heard to speak."""
    pieces = [
        piece
        for stall in stalls(words, speech, config)
        for piece in _pieces(Span(stall.start_s, stall.end_s))
    ]
    sounds = [
        samples_N[round(one.start_s * sample_rate_hz) : round(one.end_s * sample_rate_hz)]
        for one in pieces
    ]
    for piece, share in zip(pieces, hearing(sounds) if pieces else (), strict=True):
        if share < config.min_confirmed_speech:
            speech = _outside(speech, piece)
    return tuple(speech)


def _pieces(stall: Span) -> list[Span]:
    """Equal parts of about ten seconds."""
    count = max(round(stall.duration_s / PIECE_S), 1)
    edges_s = np.linspace(stall.start_s, stall.end_s, count + 1).tolist()
    return [Span(edges_s[place], edges_s[place + 1]) for place in range(count)]


def _outside(spans: Sequence[Span], removed: Span) -> list[Span]:
    """The parts of the spans that do not lie in the removed one."""
    parts = (
        part
        for span in spans
        for part in (
            Span(span.start_s, min(span.end_s, removed.start_s)),
            Span(max(span.start_s, removed.end_s), span.end_s),
        )
    )
    return [part for part in parts if part.duration_s > 0]
