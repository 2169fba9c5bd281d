"""What a report shows, ready to be laid out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nightscribe.records import Finding, Span, Word


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing worth a line at the top: what ran, on what, with which settings."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run was at one moment of it."""

    elapsed_s: float
    audio_s: float
    occupancy: float | None  # None: nobody told


@dataclass(frozen=True, slots=True)
class StageWait:
    """How long one stage of the pipeline worked, and how long it waited for the others."""

    stage: str
    busy_s: float
    waiting_s: float


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole: the seconds of a folder, the failures of one reason."""

    name: str
    amount: float


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording to listen to: compressed audio and its outline for the eye."""

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
    words: tuple[Word, ...] = ()
    speech: tuple[Span, ...] = ()
    findings: tuple[Finding, ...] = ()
    word_error_rate: float | None = None
    reference: str | None = None
    sound: Sound | None = None

    @property
    def confidence(self) -> float | None:
        """The mean over words."""
        if not self.words:
            return None
        return sum(word.confidence for word in self.words) / len(self.words)


@dataclass(frozen=True, slots=True)
class WordErrors:
    """The scores of a run against its references."""

    facts: Sequence[Fact]
    substitutions: Sequence[Share]
    deletions: Sequence[Share]
    insertions: Sequence[Share]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run."""

    title: str
    created: str
    headline: Sequence[Fact]
    facts: Sequence[Fact]
    progress: Sequence[Progress] = ()
    waits: Sequence[StageWait] = ()
    seconds_by_folder: Sequence[Share] = ()
    recordings_by_status: Sequence[Share] = ()
    failures_by_reason: Sequence[Share] = ()
    findings_by_guard: Sequence[Share] = ()
    word_errors: WordErrors | None = None
    pages: Sequence[RecordingPage] = ()
    num_recordings: int = 0
