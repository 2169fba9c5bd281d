"""The sum of many headers: hours of what, where, and what cannot be read."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nightscribe.records import Recording
from nightscribe.survey.headers import Header


@dataclass(frozen=True, slots=True)
class Looked:
    """One recording of the plan and what its header said, or why it said nothing."""

    recording: Recording
    header: Header | None
    trouble: str | None = None

    @property
    def duration_s(self) -> float:
        """The length of the span that is asked for."""
        if self.header is None:
            return 0.0
        recording = self.recording
        end_s = min(recording.end_s or self.header.duration_s, self.header.duration_s)
        return max(end_s - recording.start_s, 0.0)


@dataclass(slots=True)
class Archive:
    """What was found; grows as recordings are added."""

    num_recordings: int = 0
    num_duplicates: int = 0
    size_bytes: int = 0
    duration_s: float = 0.0
    num_shards: int = 0
    longest_s: float = 0.0
    heard_s: float = 0.0  # every channel that is transcribed alone counts by itself
    seconds_by: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unreadable: list[Looked] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a recording becomes: shards of so many seconds, and one of each channel or not."""

    num_shards: Callable[[float], int]
    splits_channels: bool = False

    def num_heard(self, one: Looked) -> int:
        """How many times its length is heard."""
        is_split = self.splits_channels and one.recording.channel is None
        return one.header.num_channels if is_split and one.header else 1


def survey(looked: Iterable[Looked], num_duplicates: int, shape: Shape) -> Archive:
    """Add up what the headers say."""
    archive = Archive(num_duplicates=num_duplicates)
    for one in looked:
        archive.num_recordings += 1
        archive.size_bytes += one.recording.size_bytes
        if one.header is None:
            archive.unreadable.append(one)
        else:
            _add(archive, one, one.header, shape)
    return archive


def _add(archive: Archive, one: Looked, header: Header, shape: Shape) -> None:
    duration_s, num_heard = one.duration_s, shape.num_heard(one)
    archive.duration_s += duration_s
    archive.heard_s += num_heard * duration_s
    archive.num_shards += num_heard * shape.num_shards(duration_s)
    archive.longest_s = max(archive.longest_s, duration_s)
    kinds = {
        "codec": header.codec,
        "rate": f"{header.sample_rate_hz} Hz",
        "channels": str(header.num_channels),
        "folder": str(PurePosixPath(one.recording.uri).parent),
    }
    for kind, name in kinds.items():
        # Counters add floats as well; their type knows of whole numbers only.
        archive.seconds_by[kind][name] += duration_s  # type: ignore[assignment]
