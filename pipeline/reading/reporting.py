"""A run's tables to what its report shows."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from nightscribe.reading.pace import pace_of
from nightscribe.reading.scorecard import ROWS_KEY, Totals
from nightscribe.records import Failure, Finding, Recording, Span, Transcript, Word
from nightscribe.report.content import (
    Fact,
    Progress,
    RecordingPage,
    Report,
    Share,
    Sound,
    StageWait,
    WordErrors,
)
from nightscribe.storage.errors import StorageError
from nightscribe.storage.store import Store
from nightscribe.storage.tables import read_table

MAX_SHARES = 20
MAX_CONFUSIONS = 10

Listen = Callable[[Recording, float], Sound | None]


@dataclass(slots=True)
class EngineStats:
    """What all recordings come to; grows with each of them, and keeps the most suspicious ones."""

    max_pages: int
    word_error_rates: Mapping[str, float | None]
    duration_s: float = 0.0
    num_words: int = 0
    seconds_by_folder: Counter[str] = field(default_factory=Counter)
    num_by_status: Counter[str] = field(default_factory=Counter)
    num_by_guard: Counter[str] = field(default_factory=Counter)
    num_by_reason: Counter[str] = field(default_factory=Counter)
    model: str = ""
    failed: list[Failure] = field(default_factory=list)
    _suspicious: list[tuple[tuple[float, ...], int, Transcript]] = field(default_factory=list)

    @property
    def num_recordings(self) -> int:
        return self.num_by_status.total()

    def add(self, transcript: Transcript) -> None:
        recording = transcript.recording
        self.duration_s += transcript.duration_s
        self.num_words += len(transcript.words)
        folder = str(PurePosixPath(recording.uri).parent)
        # Counters add floats as well; their type knows of whole numbers only.
        self.seconds_by_folder[folder] += transcript.duration_s  # type: ignore[assignment]
        self.num_by_status[transcript.status] += 1
        self.model = f"{transcript.model}, revision {transcript.model_revision}"
        if transcript.inspection:
            self.num_by_guard.update(one.guard for one in transcript.inspection.findings)
        entry = self._suspicion(transcript), -self.num_recordings, transcript
        keep = heapq.heappush if len(self._suspicious) < self.max_pages else heapq.heappushpop
        keep(self._suspicious, entry)

    def add_failure(self, failure: Failure) -> None:
        if failure.shard is None:
            self.num_by_status["failed"] += 1
            self.failed += [failure] if len(self.failed) < self.max_pages else []
        self.num_by_reason[f"{failure.stage}: {failure.reason}"] += 1

    def most_suspicious(self) -> list[Transcript]:
        return [transcript for _, _, transcript in sorted(self._suspicious, reverse=True)]

    def _suspicion(self, transcript: Transcript) -> tuple[float, ...]:
        """Worst first: a bad status, findings, many word errors, words that are not sure."""
        num_findings = len(transcript.inspection.findings) if transcript.inspection else 0
        rate = self.word_error_rates.get(transcript.recording.source_id) or 0.0
        words = transcript.words
        doubt = 1 - sum(word.confidence for word in words) / len(words) if words else 0.0
        return float(transcript.status != "ok"), float(num_findings), rate, doubt


def tally(
    transcripts: Iterable[Transcript],
    failures: Iterable[Failure],
    word_error_rates: Mapping[str, float | None],
    max_pages: int,
) -> EngineStats:
    """One pass over a run."""
    found = EngineStats(max_pages, word_error_rates)
    for transcript in transcripts:
        found.add(transcript)
    for failure in failures:
        found.add_failure(failure)
    return found


def read_word_error_rates(store: Store) -> dict[str, float | None]:
    """The rate of each recording of the last evaluation."""
    try:
        with store.open(ROWS_KEY) as file:
            table = read_table(file, ["recording_id", "word_error_rate"])
    except StorageError as error:
        if error.reason == "not_found":
            return {}
        raise
    return {row["recording_id"]: row["word_error_rate"] for row in table.to_pylist()}


def compose(
    title: str,
    created: str,
    found: EngineStats,
    status: Mapping[str, Any],
    settings: Mapping[str, Any],
    totals: Totals | None,
    listen: Listen,
) -> Report:
    """Everything the report shows, in its order."""
    return Report(
        title=title,
        created=created,
        headline=_headline(found, status, totals),
        facts=[
            Fact(name, str(value)) for name, value in {"model": found.model, **settings}.items()
        ],
        progress=progress_of(status),
        waits=[StageWait(**wait) for wait in status.get("waits", [])],
        seconds_by_folder=_top(found.seconds_by_folder),
        recordings_by_status=_top(found.num_by_status),
        failures_by_reason=_top(found.num_by_reason),
        findings_by_guard=_top(found.num_by_guard),
        word_errors=_word_errors(totals) if totals else None,
        pages=[
            *map(_failed_page, found.failed),
            *(_page(one, found.word_error_rates, listen) for one in found.most_suspicious()),
        ],
        num_recordings=found.num_recordings,
    )


def progress_of(status: Mapping[str, Any]) -> list[Progress]:
    """The history of the run, as its driver told it."""
    return [
        Progress(elapsed_s, heard_s, occupancy)
        for elapsed_s, heard_s, occupancy in status.get("history", [])
    ]


def _headline(found: EngineStats, status: Mapping[str, Any], totals: Totals | None) -> list[Fact]:
    facts = [
        Fact("recordings", f"{found.num_recordings:,}"),
        _length(found.duration_s),
        Fact("words", f"{found.num_words:,}"),
    ]
    pace = pace_of(status)
    if pace.times_real_time is not None:
        facts.append(Fact("times real time", f"{pace.times_real_time:,.1f}"))
    if pace.occupancy is not None:
        facts.append(Fact("occupancy", f"{pace.occupancy:.1%}"))
    rate = totals["normalised"]["word_error_rate"] if totals else None
    if rate is not None:
        facts.append(Fact("word error rate", f"{rate:.2%}"))
    return facts


def _length(duration_s: float) -> Fact:
    if duration_s < 3600:
        return Fact("minutes of audio", f"{duration_s / 60:.1f}")
    return Fact("hours of audio", f"{duration_s / 3600:,.1f}")


def _top(amounts: Counter[str]) -> list[Share]:
    return [Share(name, float(amount)) for name, amount in amounts.most_common(MAX_SHARES)]


def _word_errors(totals: Totals) -> WordErrors:
    names = ("substitutions", "deletions", "insertions")
    shares = [
        [Share(words, times) for words, times in totals[name][:MAX_CONFUSIONS]] for name in names
    ]
    return WordErrors(_score_facts(totals), *shares)


def _score_facts(totals: Totals) -> list[Fact]:
    facts = [
        Fact(f"{meaning}, {kind}", f"{totals[kind][name]:.2%}")
        for kind in ("normalised", "raw")
        for name, meaning in (
            ("word_error_rate", "word error rate"),
            ("mean_word_error_rate", "mean over recordings"),
            ("character_error_rate", "character error rate"),
        )
        if totals[kind][name] is not None
    ]
    if totals["bleu"] is not None:
        facts.append(Fact("BLEU of translations", f"{totals['bleu']:.2f}"))
    if totals["start_error_median_s"] is not None:
        median_s, p90_s = totals["start_error_median_s"], totals["start_error_p90_s"]
        facts.append(Fact("word starts off by", f"{median_s:.3f} s median, {p90_s:.3f} s p90"))
    return facts


def _page(
    transcript: Transcript, word_error_rates: Mapping[str, float | None], listen: Listen
) -> RecordingPage:
    """Times on a page count from where the recording starts in its file, as its sound does."""
    recording, inspection = transcript.recording, transcript.inspection
    from_s = recording.start_s
    return RecordingPage(
        recording_id=recording.recording_id,
        name=_name(recording),
        duration_s=transcript.duration_s,
        status=transcript.status,
        reasons=transcript.reasons,
        language=inspection.language_heard if inspection else recording.language,
        words=tuple(_moved(word, from_s) for word in transcript.words),
        speech=tuple(Span(a - from_s, b - from_s) for a, b in transcript.speech),
        findings=tuple(_moved(one, from_s) for one in inspection.findings) if inspection else (),
        word_error_rate=word_error_rates.get(recording.source_id),
        reference=recording.text,
        sound=listen(recording, transcript.duration_s),
    )


def _failed_page(failure: Failure) -> RecordingPage:
    return RecordingPage(
        recording_id=failure.recording.recording_id,
        name=_name(failure.recording),
        duration_s=failure.recording.expected_s or 0.0,
        status="failed",
        reasons=(f"{failure.stage}, {failure.reason}: {failure.detail}",),
        reference=failure.recording.text,
    )


def _name(recording: Recording) -> str:
    name = recording.uri if recording.channel is None else f"{recording.uri} [{recording.channel}]"
    return f"{name} from {recording.start_s:g} s" if recording.start_s else name


Timed = TypeVar("Timed", Word, Finding)


def _moved(timed: Timed, from_s: float) -> Timed:
    start_s, end_s = (max(time_s - from_s, 0.0) for time_s in (timed.start_s, timed.end_s))
    return replace(timed, start_s=start_s, end_s=end_s)
