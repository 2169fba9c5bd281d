"""Recordings to a plan: each once, duplicates found by content, longest first within a window.

The windows follow the order in which recordings were found, so an archive is transcribed from its
beginning. Within a window the longest come first, so that no long one is left for the end. A plan
streams: only a few bytes of each earlier recording stay in memory.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from nightscribe.options import check_options, option
from nightscribe.records import PlannedRecording, Recording

# Typical bytes per second of speech, to estimate durations that are unknown.
BYTES_PER_S = {
    ".aac": 12_000,
    ".aif": 96_000,
    ".aiff": 96_000,
    ".amr": 1_600,
    ".flac": 40_000,
    ".g722": 8_000,
    ".gsm": 1_650,
    ".m4a": 12_000,
    ".m4b": 8_000,
    ".mkv": 150_000,
    ".mov": 200_000,
    ".mp2": 24_000,
    ".mp3": 16_000,
    ".mp4": 120_000,
    ".oga": 10_000,
    ".ogg": 10_000,
    ".opus": 6_000,
    ".wav": 64_000,
    ".webm": 80_000,
    ".wma": 12_000,
}
UNKNOWN_BYTES_PER_S = 16_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanningConfig:
    """In which order recordings are transcribed."""

    window_recordings: int = option(
        10_000, "recordings that are sorted longest first among themselves", minimum=1
    )

    def __post_init__(self) -> None:
        check_options(self, "planning")


def plan(
    recordings: Iterable[Recording],
    content_of: Callable[[Recording], str],
    config: PlanningConfig,
) -> Iterator[PlannedRecording]:
    """Order recordings and mark duplicates; `content_of` is equal for equal bytes.

    The first recording of a span and channel of the same bytes is the original. A recording that
    is found twice under one name is planned once.
    """
    marked = _marked(recordings, content_of)
    window = 0
    while found := list(islice(marked, config.window_recordings)):
        yield from sorted((_placed(one, window) for one in found), key=_longest_first)
        window += 1


def estimated_s(recording: Recording) -> float:
    """The probable duration: that of the manifest, or an estimate from the size."""
    if recording.expected_s is not None:
        return recording.expected_s
    if recording.end_s is not None:
        return recording.end_s - recording.start_s
    suffix = PurePosixPath(recording.uri).suffix.lower()
    whole_s = recording.size_bytes / BYTES_PER_S.get(suffix, UNKNOWN_BYTES_PER_S)
    return round(max(whole_s - recording.start_s, 0.0), 1)


def _marked(
    recordings: Iterable[Recording], content_of: Callable[[Recording], str]
) -> Iterator[tuple[Recording, str | None]]:
    """Each recording once, with the id of the earlier one it repeats."""
    id_of_content: dict[bytes, str] = {}
    repeating: set[str] = set()
    for recording in recordings:
        identity = [content_of(recording), recording.channel, recording.start_s, recording.end_s]
        content = hashlib.sha256(json.dumps(identity).encode()).digest()[:16]
        recording_id = recording.recording_id
        original = id_of_content.setdefault(content, recording_id)
        if original is recording_id:
            yield recording, None
        elif recording_id != original and recording_id not in repeating:
            repeating.add(recording_id)
            yield recording, original


def _placed(marked: tuple[Recording, str | None], window: int) -> PlannedRecording:
    recording, original = marked
    return PlannedRecording(
        recording=recording,
        window=window,
        estimated_s=estimated_s(recording),
        duplicate_of=original,
    )


def _longest_first(planned: PlannedRecording) -> tuple[float, str]:
    return -planned.estimated_s, planned.recording.recording_id
