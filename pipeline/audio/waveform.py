"""Reads one channel of a file, or the mix of all, or a span of that.

N samples, C channels, W windows, M samples of a window.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.audio.decode_outcome import DecodeOutcome

# A mix with less than this share of the loudest channel's energy is taken for cancellation.
CANCELLED_SHARE = 0.1
WINDOW_S = 1.0


class Excerpt:
    """Selects the samples between two times of a file, whatever the block sizes."""

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
    blocks_NC: Iterable[NDArray[np.int16]], channel: int | None, sample_rate_hz: int
) -> Iterator[NDArray[np.int16]]:
    """The blocks of one channel, or of the mix of all channels."""
    if channel is None:
        return mix(blocks_NC, sample_rate_hz)
    return select_channel(blocks_NC, channel)


def read_waveform(
    path: Path,
    config: DecodeConfig,
    sample_rate_hz: int,
    *,
    channel: int | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> tuple[NDArray[np.int16], DecodeOutcome]:
    """All samples of a file, or of a span of it, at once, and how the decoding went."""
    excerpt = Excerpt(start_s, end_s, sample_rate_hz)
    with AudioDecoder(path, config, sample_rate_hz) as decoder:
        blocks_N = excerpt.inside(one_channel(decoder, channel, sample_rate_hz))
        samples_N = np.concatenate([np.zeros(0, np.int16), *blocks_N])
        if excerpt.ends_early:  # ffmpeg has more to write, and would wait for a reader
            return samples_N, DecodeOutcome(status="ok", duration_s=excerpt.duration_s)
        return samples_N, decoder.outcome


def mix(blocks_NC: Iterable[NDArray[np.int16]], sample_rate_hz: int) -> Iterator[NDArray[np.int16]]:
    """The mean of the channels; in every second where they cancel out, the loudest channel.

    The result does not depend on the block sizes.
    """
    window = int(WINDOW_S * sample_rate_hz)
    rest_NC: NDArray[np.int16] | None = None
    for block_NC in blocks_NC:
        if block_NC.shape[1] == 1:
            yield block_NC[:, 0]
            continue
        samples_NC = block_NC if rest_NC is None else np.concatenate([rest_NC, block_NC])
        whole = len(samples_NC) // window * window
        if whole:
            yield _mixed(samples_NC[:whole].reshape(-1, window, samples_NC.shape[1]))
        rest_NC = samples_NC[whole:]
    if rest_NC is not None and len(rest_NC):
        yield _mixed(rest_NC[None])


def select_channel(
    blocks_NC: Iterable[NDArray[np.int16]], channel: int
) -> Iterator[NDArray[np.int16]]:
    """The blocks of one channel, counted from 0."""
    for block_NC in blocks_NC:
        if channel >= block_NC.shape[1]:
            raise ValueError(
                f"there is no channel {channel} among {block_NC.shape[1]}, counted from 0"
            )
        yield np.ascontiguousarray(block_NC[:, channel])


def _mixed(windows_WMC: NDArray[np.int16]) -> NDArray[np.int16]:
    exact_WMC = windows_WMC.astype(np.float64)
    mean_WM = exact_WMC.mean(axis=2)
    energy_WC = np.square(exact_WMC).sum(axis=1)
    loudest_W = energy_WC.argmax(axis=1)
    # One loud and C-1 silent channels have a mean with 1/C^2 of its energy: no cancellation.
    least_W = CANCELLED_SHARE * energy_WC.max(axis=1) / windows_WMC.shape[2] ** 2
    cancelled_W = np.square(mean_WM).sum(axis=1) < least_W
    for window in np.flatnonzero(cancelled_W):
        mean_WM[window] = exact_WMC[window, :, loudest_W[window]]
    return np.rint(mean_WM).astype(np.int16).ravel()
