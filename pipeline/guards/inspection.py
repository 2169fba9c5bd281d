"""All guards over one transcript: what becomes its columns, its status and the reasons for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.guards.config import GuardsConfig
from pipeline.guards.language import language_heard, language_mismatch
from pipeline.guards.loops import loops, num_looped_words
from pipeline.guards.silences import simultaneous_words, words_over_silence
from pipeline.guards.spans import Finding, Span, total_s
from pipeline.guards.stalls import holes, stalls, uncovered_speech_s
from pipeline.records import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What every guard measured; each field but the findings is a column of the transcript."""

    speech_s: float
    uncovered_speech_s: float
    num_stalls: int
    num_looped_words: int
    num_silent_words: int
    num_simultaneous_words: int
    language_heard: str | None
    is_language_mismatched: bool
    findings: tuple[Finding, ...]

    @property
    def coverage(self) -> float:
        """The share of speech that has words; 1 where nobody speaks."""
        return 1 - self.uncovered_speech_s / self.speech_s if self.speech_s else 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word for the state of a transcript, and the reasons for it."""

    status: str
    reasons: tuple[str, ...]


def inspect(
    words: Sequence[Word],
    speech: Sequence[Span],
    expected_language: str | None,
    config: GuardsConfig,
) -> Inspection:
    """Run every guard."""
    heard = language_heard(words, config)
    silent = words_over_silence(words, speech, config)
    simultaneous = simultaneous_words(words, config)
    mismatch = language_mismatch(words, expected_language, config)
    found_stalls = stalls(words, speech, config)
    uncovered_s = uncovered_speech_s(words, speech, config)
    is_covered = uncovered_s <= (1 - config.min_coverage) * total_s(speech)
    found_holes = [] if is_covered else holes(words, speech, config)
    findings = found_stalls + found_holes + loops(words, config) + silent + simultaneous + mismatch
    return Inspection(
        speech_s=total_s(speech),
        uncovered_speech_s=uncovered_s,
        num_stalls=len(found_stalls),
        num_looped_words=num_looped_words(words, config),
        num_silent_words=_num_words(words, silent),
        num_simultaneous_words=_num_words(words, simultaneous),
        language_heard=heard.code if heard else None,
        is_language_mismatched=bool(mismatch),
        findings=tuple(sorted(findings, key=lambda finding: finding.start_s)),
    )


def judge(
    num_words: int, damage: str | None, inspection: Inspection, num_redecoded: int
) -> Verdict:
    """The worst that holds: partial, then empty, then redecoded, then ok; all reasons are kept."""
    reasons = [damage] if damage else []
    reasons += [
        f"{finding.guard} at {finding.start_s:.1f}-{finding.end_s:.1f} s: {finding.detail}"
        for finding in inspection.findings
    ]
    if num_redecoded:
        reasons.append(f"{num_redecoded} stalled spans were decoded again")
    if damage or (num_words and inspection.num_stalls):
        status = "partial"
    elif not num_words:
        status = "empty"
    else:
        status = "redecoded" if num_redecoded else "ok"
    return Verdict(status, tuple(reasons))


def _num_words(words: Sequence[Word], findings: Sequence[Finding]) -> int:
    return sum(
        any(finding.start_s <= word.start_s and word.end_s <= finding.end_s for finding in findings)
        for word in words
    )
