"""The sum of many headers: hours of what, where, and what cannot be read."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from pathlib import PurePosixPath

from pipeline.records import Recording
from pipeline.survey.headers import Header


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
    seconds_by: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unreadable: list[Looked] = field(default_factory=list)


def survey(looked: Iterable[Looked], num_duplicates: int, max_shard_s: float) -> Archive:
    """Add up what the headers say; every channel that is transcribed alone counts by itself."""
    archive = Archive(num_duplicates=num_duplicates)
    for one in looked:
        archive.num_recordings += 1
        archive.size_bytes += one.recording.size_bytes
        if one.header is None:
            archive.unreadable.append(one)
        else:
            _add(archive, one.recording, one.header, one.duration_s, max_shard_s)
    return archive


def _add(
    archive: Archive, recording: Recording, header: Header, duration_s: float, max_shard_s: float
) -> None:
    archive.duration_s += duration_s
    archive.num_shards += max(ceil(duration_s / max_shard_s), 1)
    archive.longest_s = max(archive.longest_s, duration_s)
    kinds = {
        "codec": header.codec,
        "rate": f"{header.sample_rate_hz} Hz",
        "channels": str(header.num_channels),
        "folder": str(PurePosixPath(recording.uri).parent),
    }
    for kind, name in kinds.items():
        # Counters add floats as well; their type knows of whole numbers only.
        archive.seconds_by[kind][name] += duration_s  # type: ignore[assignment]
