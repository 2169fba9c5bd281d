"""What a file says about its sound, from its first and last bytes alone."""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nightscribe.errors import NightscribeError

HEAD_BYTES = 256 * 2**10
TAIL_BYTES = 256 * 2**10
# Films keep their index, which grows with their length, at the end.
LONG_TAIL_BYTES = 8 * 2**20
CHANNELS_OF_LAYOUT = {
    "mono": 1,
    "stereo": 2,
    "downmix": 2,
    "2.1": 3,
    "3.0": 3,
    "quad": 4,
    "4.0": 4,
    "3.1": 4,
    "5.0": 5,
    "4.1": 5,
    "5.1": 6,
    "6.0": 6,
    "6.1": 7,
    "7.0": 7,
    "7.1": 8,
}

ReadAt = Callable[[int, int], bytes]  # first byte, number of bytes
Ask = Callable[[Path], str]  # what ffmpeg says about the header of a local file

_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
_SOUND = re.compile(r"Stream #[^\n]*?: Audio: (\w+)[^\n]*?, (\d+) Hz, ([^,\n]+)")


@dataclass(frozen=True, slots=True)
class Header:
    """Codec, rate, channels and length of a file's first sound."""

    codec: str
    sample_rate_hz: int
    num_channels: int
    duration_s: float


class UnreadableError(NightscribeError):
    """A file whose header names no sound."""


def read_header(suffix: str, size_bytes: int, read_at: ReadAt, ask: Ask) -> Header:
    """The header of a file of which only both ends are read; UnreadableError if there is none."""
    if not size_bytes:
        raise UnreadableError("the file is empty")
    try:
        return _header(suffix, size_bytes, read_at, TAIL_BYTES, ask)
    except UnreadableError:
        if size_bytes <= HEAD_BYTES + TAIL_BYTES:
            raise
        return _header(suffix, size_bytes, read_at, LONG_TAIL_BYTES, ask)


def _header(suffix: str, size_bytes: int, read_at: ReadAt, tail_bytes: int, ask: Ask) -> Header:
    with tempfile.TemporaryDirectory() as folder:
        hollow = Path(folder) / f"hollow{suffix}"
        _write_ends(hollow, size_bytes, read_at, tail_bytes)
        return parse_header(ask(hollow).replace(str(hollow), "the file"))


def parse_header(said: str) -> Header:
    """The header in what ffmpeg says about a file."""
    sound, duration = _SOUND.search(said), _DURATION.search(said)
    if sound is None:
        raise UnreadableError(_last_line(said))
    if duration is None:
        raise UnreadableError("the header names no duration")
    hours, minutes, seconds = duration.groups()
    duration_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return Header(sound[1], int(sound[2]), _num_channels(sound[3].strip()), duration_s)


def _write_ends(hollow: Path, size_bytes: int, read_at: ReadAt, tail_bytes: int) -> None:
    """A file of the same size with holes where nothing was read."""
    with hollow.open("wb") as file:
        file.truncate(size_bytes)
        file.write(read_at(0, min(HEAD_BYTES, size_bytes)))
        first = max(size_bytes - tail_bytes, HEAD_BYTES)
        if first < size_bytes:
            file.seek(first)
            file.write(read_at(first, size_bytes - first))


def _num_channels(layout: str) -> int:
    plain = layout.partition("(")[0]
    if plain in CHANNELS_OF_LAYOUT:
        return CHANNELS_OF_LAYOUT[plain]
    counted = re.match(r"(\d+) channels", plain)
    return int(counted[1]) if counted else 1


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if "At least one output" not in line]
    last = lines[-1].strip() if lines else "ffmpeg says nothing about it"
    return re.sub(r"^(\[[^\]]*\] )+", "", last)
