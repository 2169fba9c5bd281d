"""Runs every guard on a transcript, and sets its inspection columns, its status and the reasons.

Includes the language guard: which language the words are in, and whether it is the expected one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.hallucinations import (
    loops,
    num_looped_words,
    simultaneous_words,
    words_over_silence,
)
from nightscribe.guards.stalls import holes, stalls, total_s, uncovered_speech_s
from nightscribe.records import Finding, Inspection, Span, Transcript, Word, primary_language


def inspect(
    words: Sequence[Word],
    speech: Sequence[Span],
    expected_language: str | None,
    config: GuardsConfig,
) -> Inspection:
    """Run every guard on the words of one recording."""
    language = detect_language(words, config)
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
        detected_language=language.code if language else None,
        is_language_mismatched=bool(mismatch),
        findings=tuple(sorted(findings, key=lambda finding: finding.start_s)),
    )


def add_inspection(transcript: Transcript, config: GuardsConfig) -> Transcript:
    """The transcript with its inspection, and the status and reasons that follow from it.

    The status is the first that applies of partial, empty, redecoded, ok; all reasons are kept.
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
    retried = [f"stalls fixed by a retry: {num_redecoded}"] if num_redecoded else []
    return (*transcript.reasons, *retried, *found)


def _num_words(words: Sequence[Word], findings: Sequence[Finding]) -> int:
    return sum(
        any(finding.start_s <= word.start_s and word.end_s <= finding.end_s for finding in findings)
        for word in words
    )


@dataclass(frozen=True, slots=True)
class DetectedLanguage:
    """The most probable language of a text, as an ISO 639 code."""

    code: str
    probability: float


def detect_language(words: Sequence[Word], config: GuardsConfig) -> DetectedLanguage | None:
    """The language of the words; None if there are too few words to tell."""
    if len(words) < config.min_language_words:
        return None
    code, probability = _identifier().classify(" ".join(word.text for word in words))
    return DetectedLanguage(code, float(probability))


def language_mismatch(
    words: Sequence[Word], expected: str | None, config: GuardsConfig
) -> list[Finding]:
    """One finding over all words if they are very probably not in the expected language."""
    found = detect_language(words, config)
    if not expected or found is None or found.probability < config.min_language_probability:
        return []
    if found.code == primary_language(expected):
        return []
    detail = f"detected {found.code} ({found.probability:.0%}), expected {expected}"
    end_s = max(word.end_s for word in words)
    return [Finding("language", words[0].start_s, end_s, detail)]


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
