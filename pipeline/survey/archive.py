"""What an archive holds: reads the header of each file from both ends, and adds them up."""

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nightscribe.errors import NightscribeError
from nightscribe.records import Recording

HEAD_BYTES = 256 * 2**10
TAIL_BYTES = 256 * 2**10
# Videos have their index at the end; it grows with their length.
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
ReadHeaderText = Callable[[Path], str]  # what ffmpeg prints about the header of a local file

_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
_AUDIO_STREAM = re.compile(r"Stream #[^\n]*?: Audio: (\w+)[^\n]*?, (\d+) Hz, ([^,\n]+)")


@dataclass(frozen=True, slots=True)
class Header:
    """Codec, sample rate, channels and duration of the first audio stream of a file."""

    codec: str
    sample_rate_hz: int
    num_channels: int
    duration_s: float


class UnreadableError(NightscribeError):
    """A file whose header names no audio stream."""


def read_header(suffix: str, size_bytes: int, read_at: ReadAt, read_text: ReadHeaderText) -> Header:
    """The header of a file, read from both ends alone; UnreadableError if there is none."""
    if not size_bytes:
        raise UnreadableError("the file is empty")
    try:
        return _header(suffix, size_bytes, read_at, TAIL_BYTES, read_text)
    except UnreadableError:
        if size_bytes <= HEAD_BYTES + TAIL_BYTES:
            raise
        return _header(suffix, size_bytes, read_at, LONG_TAIL_BYTES, read_text)


@dataclass(frozen=True, slots=True)
class SurveyedRecording:
    """One recording of the plan with its header, or the error of reading it."""

    recording: Recording
    header: Header | None
    error: str | None = None

    @property
    def duration_s(self) -> float:
        """The duration of the span that the plan asks for."""
        if self.header is None:
            return 0.0
        recording = self.recording
        end_s = min(recording.end_s or self.header.duration_s, self.header.duration_s)
        return max(end_s - recording.start_s, 0.0)


@dataclass(slots=True)
class ArchiveSurvey:
    """The totals of an archive; grows as recordings are added."""

    num_recordings: int = 0
    num_duplicates: int = 0
    size_bytes: int = 0
    duration_s: float = 0.0
    num_shards: int = 0
    longest_s: float = 0.0
    transcribed_s: float = 0.0  # with `splits_channels`, each channel counts separately
    seconds_by: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unreadable: list[SurveyedRecording] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyOptions:
    """How a recording becomes shards: by duration, and by channel if channels are split."""

    num_shards_of: Callable[[float], int]  # of a duration in seconds
    splits_channels: bool = False

    def num_channels_of(self, one: SurveyedRecording) -> int:
        """How many channels of a recording are transcribed separately."""
        is_split = self.splits_channels and one.recording.channel is None
        return one.header.num_channels if is_split and one.header else 1


def survey(
    recordings: Iterable[SurveyedRecording], num_duplicates: int, options: SurveyOptions
) -> ArchiveSurvey:
    """Add up the headers."""
    archive = ArchiveSurvey(num_duplicates=num_duplicates)
    for one in recordings:
        archive.num_recordings += 1
        archive.size_bytes += one.recording.size_bytes
        if one.header is None:
            archive.unreadable.append(one)
        else:
            _add(archive, one, one.header, options)
    return archive


def _header(
    suffix: str, size_bytes: int, read_at: ReadAt, tail_bytes: int, read_text: ReadHeaderText
) -> Header:
    with tempfile.TemporaryDirectory() as folder:
        sparse = Path(folder) / f"sparse{suffix}"
        _write_ends(sparse, size_bytes, read_at, tail_bytes)
        return parse_header(read_text(sparse).replace(str(sparse), "the file"))


def parse_header(text: str) -> Header:
    """Parse what ffmpeg prints about a file."""
    stream, duration = _AUDIO_STREAM.search(text), _DURATION.search(text)
    if stream is None:
        raise UnreadableError(_last_line(text))
    if duration is None:
        raise UnreadableError("the header names no duration")
    hours, minutes, seconds = duration.groups()
    duration_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return Header(stream[1], int(stream[2]), _num_channels(stream[3].strip()), duration_s)


def _write_ends(sparse: Path, size_bytes: int, read_at: ReadAt, tail_bytes: int) -> None:
    """Write a sparse file of the same size that holds only the bytes that were read."""
    with sparse.open("wb") as file:
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


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "At least one output" not in line]
    if any(line.startswith("Input #") for line in map(_message, lines)):
        return "there is no audio in this file"
    return _message(lines[-1]) if lines else "ffmpeg prints nothing about it"


def _message(line: str) -> str:
    """A line of ffmpeg without the names and levels before it."""
    return re.sub(r"^(\[[^\]]*\] )+", "", line.strip())


def _add(
    archive: ArchiveSurvey, one: SurveyedRecording, header: Header, options: SurveyOptions
) -> None:
    duration_s, num_channels = one.duration_s, options.num_channels_of(one)
    archive.duration_s += duration_s
    archive.transcribed_s += num_channels * duration_s
    archive.num_shards += num_channels * options.num_shards_of(duration_s)
    archive.longest_s = max(archive.longest_s, duration_s)
    kinds = {
        "codec": header.codec,
        "rate": f"{header.sample_rate_hz} Hz",
        "channels": str(header.num_channels),
        "folder": one.recording.folder,
    }
    for kind, name in kinds.items():
        # Counters add floats as well; their type knows of whole numbers only.
        archive.seconds_by[kind][name] += duration_s  # type: ignore[assignment]
