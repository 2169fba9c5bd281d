"""From the channels of a file to the one waveform the model hears.

N samples, C channels, W windows, M samples of a window.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

# A mix that keeps less than this of the loudest channel's energy has cancelled itself out.
CANCELLED_SHARE = 0.1
WINDOW_S = 1.0


def mix(blocks_NC: Iterable[NDArray[np.int16]], sample_rate_hz: int) -> Iterator[NDArray[np.int16]]:
    """The mean of the channels; where they cancel out, second by second, the loudest of them.

    A function of the samples alone: the sizes of the blocks do not matter.
    """
    window = int(WINDOW_S * sample_rate_hz)
    rest_NC: NDArray[np.int16] | None = None
    for block_NC in blocks_NC:
        if block_NC.shape[1] == 1:
            yield block_NC[:, 0]
            continue
        heard_NC = block_NC if rest_NC is None else np.concatenate([rest_NC, block_NC])
        whole = len(heard_NC) // window * window
        if whole:
            yield _mixed(heard_NC[:whole].reshape(-1, window, heard_NC.shape[1]))
        rest_NC = heard_NC[whole:]
    if rest_NC is not None and len(rest_NC):
        yield _mixed(rest_NC[None])


def take(blocks_NC: Iterable[NDArray[np.int16]], channel: int) -> Iterator[NDArray[np.int16]]:
    """One channel."""
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
    # One loud channel among C silent ones keeps 1/C^2 of its energy: that is no cancelling.
    least_W = CANCELLED_SHARE * energy_WC.max(axis=1) / windows_WMC.shape[2] ** 2
    cancelled_W = np.square(mean_WM).sum(axis=1) < least_W
    for window in np.flatnonzero(cancelled_W):
        mean_WM[window] = exact_WMC[window, :, loudest_W[window]]
    return np.rint(mean_WM).astype(np.int16).ravel()
