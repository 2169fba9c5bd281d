"""One channel of a file, or all of them mixed, or a part of that.

N samples, C channels.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.channels import mix, take
from nightscribe.audio.decode import DecodeConfig, Sound
from nightscribe.audio.outcome import Outcome


class Excerpt:
    """The samples between two times of a file, whatever the sizes of the blocks they come in."""

    def __init__(self, start_s: float, end_s: float | None, sample_rate_hz: int) -> None:
        self._start = round(start_s * sample_rate_hz)
        self._end = None if end_s is None else round(end_s * sample_rate_hz)
        self._rate_hz = sample_rate_hz
        self._num_inside = 0
        self.ends_early = False

    def inside(self, blocks_N: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
        first = 0
        for block_N in blocks_N:
            inside_N = block_N[max(self._start - first, 0) :]
            if self._end is not None:
                inside_N = inside_N[: self._end - max(first, self._start)]
            self._num_inside += len(inside_N)
            if len(inside_N):
                yield inside_N
            first += len(block_N)
            if self._end is not None and first >= self._end:
                self.ends_early = True
                return

    @property
    def duration_s(self) -> float:
        return self._num_inside / self._rate_hz


def one_channel(
    sound: Iterable[NDArray[np.int16]], channel: int | None, sample_rate_hz: int
) -> Iterator[NDArray[np.int16]]:
    """The blocks of the one channel that is meant, or of all of them mixed."""
    return mix(sound, sample_rate_hz) if channel is None else take(sound, channel)


def read_waveform(
    path: Path,
    config: DecodeConfig,
    sample_rate_hz: int,
    *,
    channel: int | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> tuple[NDArray[np.int16], Outcome]:
    """All samples of a file, or of a span of it, at once, and how its decoding went."""
    excerpt = Excerpt(start_s, end_s, sample_rate_hz)
    with Sound(path, config, sample_rate_hz) as sound:
        blocks_N = excerpt.inside(one_channel(sound, channel, sample_rate_hz))
        return np.concatenate([np.zeros(0, np.int16), *blocks_N]), sound.outcome
