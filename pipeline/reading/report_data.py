"""Collects from the tables of a run what its report shows."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from nightscribe.reading.export import conversations
from nightscribe.reading.report_pages import LoadAudio, failed_page, page, status_of
from nightscribe.reading.run_status import Totals, throughput_of
from nightscribe.records import Failure, Transcript
from nightscribe.report.content import (
    EvaluationSection,
    Fact,
    ProgressPoint,
    Report,
    Share,
    StageUtilisation,
)

MAX_SHARES = 20
MAX_CONFUSIONS = 10
FRAME_S = 0.08  # of Mimi

Conversation = Sequence[Transcript]  # the transcripts of one file, by channel


@dataclass(slots=True)
class RunSummary:
    """Counts over all recordings of a run, and its most suspicious transcripts."""

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
    _suspicious: list[tuple[tuple[float, ...], int, Conversation]] = field(default_factory=list)

    @property
    def num_recordings(self) -> int:
        return self.num_by_status.total()

    def add(self, channels: Conversation) -> None:
        """A file, whose channels are one recording."""
        for one in channels:
            self.duration_s += one.duration_s
            self.num_words += len(one.words)
            # Counters add floats as well; their type knows of whole numbers only.
            self.seconds_by_folder[one.recording.folder] += one.duration_s  # type: ignore[assignment]
            self.model = f"{one.model}, revision {one.model_revision}"
            if one.inspection:
                self.num_by_guard.update(finding.guard for finding in one.inspection.findings)
        self.num_by_status[status_of(channels)] += 1
        entry = self._suspicion(channels), -self.num_recordings, channels
        push = heapq.heappush if len(self._suspicious) < self.max_pages else heapq.heappushpop
        push(self._suspicious, entry)

    def add_failure(self, failure: Failure) -> None:
        if failure.shard is None:
            self.num_by_status["failed"] += 1
            self.failed += [failure] if len(self.failed) < self.max_pages else []
        self.num_by_reason[f"{failure.stage}: {failure.reason}"] += 1

    def most_suspicious(self) -> list[Conversation]:
        return [channels for _, _, channels in sorted(self._suspicious, reverse=True)]

    def _suspicion(self, channels: Conversation) -> tuple[float, ...]:
        """Sort key: a status other than ok, then findings, then WER, then low confidence."""
        num_findings = sum(len(one.inspection.findings) for one in channels if one.inspection)
        rate = self.word_error_rates.get(channels[0].recording.source_id) or 0.0
        words = [word for one in channels for word in one.words]
        uncertainty = 1 - sum(word.confidence for word in words) / len(words) if words else 0.0
        is_ok = all(one.status == "ok" for one in channels)
        return float(not is_ok), float(num_findings), rate, uncertainty


def summarize_run(
    transcripts: Iterable[Transcript],
    failures: Iterable[Failure],
    word_error_rates: Mapping[str, float | None],
    max_pages: int,
) -> RunSummary:
    """One pass over the tables of a run."""
    summary = RunSummary(max_pages, word_error_rates)
    for channels in conversations(transcripts):
        summary.add(channels)
    for failure in failures:
        summary.add_failure(failure)
    return summary


def build_report(
    title: str,
    created: str,
    summary: RunSummary,
    status: Mapping[str, Any],
    settings: Mapping[str, Any],
    totals: Totals | None,
    load_audio: LoadAudio,
    speakers: Sequence[str] = (),
) -> Report:
    """Everything the report shows, in its order."""
    return Report(
        title=title,
        created=created,
        headline=_headline(summary, status, totals),
        facts=[
            Fact(name, str(value)) for name, value in {"model": summary.model, **settings}.items()
        ],
        progress=progress_of(status),
        stages=[StageUtilisation(**stage) for stage in status.get("waits", [])],
        seconds_by_folder=_top(summary.seconds_by_folder),
        recordings_by_status=_top(summary.num_by_status),
        failures_by_reason=_top(summary.num_by_reason),
        findings_by_guard=_top(summary.num_by_guard),
        evaluation=_evaluation_section(totals) if totals else None,
        pages=[
            *map(failed_page, summary.failed),
            *(
                page(channels, speakers, summary.word_error_rates, load_audio)
                for channels in summary.most_suspicious()
            ),
        ],
        num_recordings=summary.num_recordings,
    )


def progress_of(status: Mapping[str, Any]) -> list[ProgressPoint]:
    """The history of the run, from the status that its driver wrote.

    Audio is that of the engines' steps: recordings count when they are finished, long ones all at
    once. The steps of a finished run include silence around each shard, so they are scaled.
    """
    history = status.get("history", [])
    if not history or len(history[-1]) < 4 or not history[-1][3]:
        return [ProgressPoint(*point[:3]) for point in history]
    is_finished = status.get("state") == "finished" and history[-1][1] > 0
    audio_per_step_s = history[-1][1] / history[-1][3] if is_finished else FRAME_S
    return [
        ProgressPoint(elapsed_s, num_steps * audio_per_step_s, occupancy)
        for elapsed_s, _, occupancy, num_steps in _at_new_steps(history)
    ]


def _at_new_steps(history: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """The points at which the engines had reported again."""
    yield history[0]
    for before, point in pairwise(history):
        if point[3] != before[3]:
            yield point


def _headline(summary: RunSummary, status: Mapping[str, Any], totals: Totals | None) -> list[Fact]:
    facts = [
        Fact("recordings", f"{summary.num_recordings:,}"),
        _length(summary.duration_s),
        Fact("words", f"{summary.num_words:,}"),
    ]
    throughput = throughput_of(status)
    if throughput.times_real_time is not None:
        facts.append(Fact("times real time", f"{throughput.times_real_time:,.1f}"))
    if throughput.occupancy is not None:
        facts.append(Fact("slot occupancy", f"{throughput.occupancy:.1%}"))
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


def _evaluation_section(totals: Totals) -> EvaluationSection:
    names = ("substitutions", "deletions", "insertions")
    shares = [
        [Share(words, times) for words, times in totals[name][:MAX_CONFUSIONS]] for name in names
    ]
    return EvaluationSection(_score_facts(totals), *shares)


def _score_facts(totals: Totals) -> list[Fact]:
    facts = [
        Fact(f"{label}, {kind}", f"{totals[kind][name]:.2%}")
        for kind in ("normalised", "raw")
        for name, label in (
            ("word_error_rate", "word error rate"),
            ("mean_word_error_rate", "mean WER over recordings"),
            ("character_error_rate", "character error rate"),
        )
        if totals[kind][name] is not None
    ]
    # Evaluations that an older version stored have none.
    leaderboard = totals.get("leaderboard_2026")
    if leaderboard and leaderboard["word_error_rate"] is not None:
        label = "word error rate, as the open ASR leaderboard of 2026, English"
        facts.append(Fact(label, f"{leaderboard['word_error_rate']:.2%}"))
    facts += _speaker_facts(totals.get("speakers") or {})
    if totals["bleu"] is not None:
        facts.append(Fact("BLEU of translations", f"{totals['bleu']:.2f}"))
    if totals["start_error_median_s"] is not None:
        median_s, p90_s = totals["start_error_median_s"], totals["start_error_p90_s"]
        facts.append(Fact("error of word starts", f"{median_s:.3f} s median, {p90_s:.3f} s p90"))
    return facts


def _speaker_facts(totals: Totals) -> Iterator[Fact]:
    names = {
        "diarization_error_rate": "diarization error rate",
        "jaccard_error_rate": "Jaccard error rate",
        "cp_word_error_rate": "word error rate with speakers (cpWER)",
        "tcp_word_error_rate": "word error rate with speakers and times (tcpWER)",
    }
    for name, label in names.items():
        if totals.get(name) is not None:
            yield Fact(label, f"{totals[name]:.2%}")
