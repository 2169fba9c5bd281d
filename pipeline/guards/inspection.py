"""All guards over one transcript: what becomes its columns, its status and the reasons for it."""

from collections.abc import Sequence
from dataclasses import replace

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.hallucinations import simultaneous_words, words_over_silence
from nightscribe.guards.language import language_heard, language_mismatch
from nightscribe.guards.repetitions import loops, num_looped_words
from nightscribe.guards.spans import total_s
from nightscribe.guards.stalls import holes, stalls, uncovered_speech_s
from nightscribe.records import Finding, Inspection, Span, Transcript, Word


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


def guarded(transcript: Transcript, config: GuardsConfig) -> Transcript:
    """The transcript with what the guards found, and its status and the reasons for it renewed.

    The worst that holds: partial, then empty, then redecoded, then ok; all reasons are kept.
    """
    expected = transcript.recording.language
    inspection = inspect(transcript.words, transcript.speech, expected, config)
    return replace(
        transcript,
        inspection=inspection,
        status=_status(transcript, inspection),
        reasons=_reasons(transcript, inspection),
    )


def _status(transcript: Transcript, inspection: Inspection) -> str:
    if transcript.status == "partial":
        return "partial"
    if not transcript.words:
        return "empty"
    if inspection.num_stalls:
        return "partial"
    return "redecoded" if transcript.num_redecoded else "ok"


def _reasons(transcript: Transcript, inspection: Inspection) -> tuple[str, ...]:
    found = [
        f"{finding.guard} at {finding.start_s:.1f}-{finding.end_s:.1f} s: {finding.detail}"
        for finding in inspection.findings
    ]
    num_redecoded = transcript.num_redecoded
    redecoded = [f"stalls cured by decoding again: {num_redecoded}"] if num_redecoded else []
    return (*transcript.reasons, *redecoded, *found)


def _num_words(words: Sequence[Word], findings: Sequence[Finding]) -> int:
    return sum(
        any(finding.start_s <= word.start_s and word.end_s <= finding.end_s for finding in findings)
        for word in words
    )
