"""The data that a report shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nightscribe.records import Finding, Span, SpeakerSpan, Word


@dataclass(frozen=True, slots=True)
class Fact:
    """One named value: a figure of the headline, a setting of the run, a score."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ProgressPoint:
    """How much audio the run had transcribed at one time."""

    elapsed_s: float
    audio_s: float
    occupancy: float | None  # the share of slots in use; None: unknown


@dataclass(frozen=True, slots=True)
class StageUtilisation:
    """How long the workers of one stage were busy, and how long they waited for other stages."""

    stage: str
    busy_s: float
    waiting_s: float


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a total: the seconds of a folder, the failures of one reason."""

    name: str
    amount: float


@dataclass(frozen=True, slots=True)
class EmbeddedAudio:
    """The audio of a recording inside the report, and the peaks of its waveform."""

    mp3: bytes = field(repr=False)
    peaks: tuple[int, ...] = field(repr=False)
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPage:
    """Everything about one recording."""

    recording_id: str
    name: str
    duration_s: float
    status: str
    reasons: tuple[str, ...] = ()
    language: str | None = None
    speakers: tuple[str, ...] = ()  # their names, where there are several
    words: tuple[Word, ...] = ()  # of several speakers by turns, else by start
    speaker_spans: tuple[SpeakerSpan, ...] = ()  # of these speakers, by start
    speech: tuple[Span, ...] = ()
    findings: tuple[Finding, ...] = ()
    word_error_rate: float | None = None
    reference: str | None = None
    audio: EmbeddedAudio | None = None

    @property
    def confidence(self) -> float | None:
        """The mean over words."""
        if not self.words:
            return None
        return sum(word.confidence for word in self.words) / len(self.words)


@dataclass(frozen=True, slots=True)
class EvaluationSection:
    """The scores of a run against its references, and the most frequent word errors."""

    facts: Sequence[Fact]
    substitutions: Sequence[Share]
    deletions: Sequence[Share]
    insertions: Sequence[Share]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that the report of one run shows."""

    title: str
    created: str
    headline: Sequence[Fact]
    facts: Sequence[Fact]
    progress: Sequence[ProgressPoint] = ()
    stages: Sequence[StageUtilisation] = ()
    seconds_by_folder: Sequence[Share] = ()
    recordings_by_status: Sequence[Share] = ()
    failures_by_reason: Sequence[Share] = ()
    findings_by_guard: Sequence[Share] = ()
    evaluation: EvaluationSection | None = None
    pages: Sequence[RecordingPage] = ()
    num_recordings: int = 0
