"""Where the samples of `nightscribe speak` go while they are made: standard output or speakers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.encode import as_int16
from nightscribe.jobs.shell.command import extras_named

STANDARD, SPEAKERS = "-", "speakers"
Play = Callable[[NDArray[np.float32]], None]


@contextmanager
def speech_output(out: str, rate_hz: int) -> Iterator[Play]:
    """A function that plays or writes samples."""
    if out == STANDARD:
        yield _write
        return
    with extras_named("speak"):
        try:
            import sounddevice
        except OSError as error:
            raise OSError(f"speakers need the system library PortAudio: {error}") from None
    try:
        stream = sounddevice.OutputStream(samplerate=rate_hz, channels=1, dtype="int16")
    except sounddevice.PortAudioError as error:
        raise ValueError(f"out={SPEAKERS}: no speakers were found: {error}") from None
    with stream:
        yield lambda samples_N: stream.write(as_int16(samples_N)[:, None])


def _write(samples_N: NDArray[np.float32]) -> None:
    sys.stdout.buffer.write(as_int16(samples_N).tobytes())
    sys.stdout.buffer.flush()
