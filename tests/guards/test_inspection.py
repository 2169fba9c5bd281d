import pytest

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.inspection import add_inspection, inspect
from nightscribe.records import Recording, Span, Transcript
from tests.guards.sounds import counted, speak
from tests.guards.test_guards import FRENCH

CONFIG = GuardsConfig()


def transcript(words, speech, status="ok", reasons=(), num_redecoded=0):
    return Transcript(
        recording=Recording(uri="talk.wav", size_bytes=1, version="1", language="en"),
        duration_s=100.0,
        status=status,
        words=tuple(words),
        num_shards=1,
        model="tiny",
        model_revision="1",
        reasons=reasons,
        speech=tuple(speech),
        num_redecoded=num_redecoded,
    )


def status(*args, **kwargs):
    return add_inspection(transcript(*args, **kwargs), CONFIG).status


def reasons(*args, **kwargs):
    return add_inspection(transcript(*args, **kwargs), CONFIG).reasons


def test_a_good_transcript_is_ok():
    inspection = inspect(counted(0, 10), [Span(0, 10)], "en", CONFIG)
    assert inspection.findings == ()
    assert inspection.uncovered_speech_s == 0
    assert status(counted(0, 10), [Span(0, 10)]) == "ok"
    assert reasons(counted(0, 10), [Span(0, 10)]) == ()


def test_every_guard_fills_its_own_column():
    french = speak(FRENCH)
    end_s = french[-1].end_s
    words = [*french, *speak("la la la " * 5, end_s), *counted(end_s + 40, end_s + 42)]
    speech = [Span(0, end_s + 20)]
    inspection = inspect(words, speech, "en", CONFIG)
    guards = [finding.guard for finding in inspection.findings]
    assert guards == ["language", "loop", "stall", "coverage", "hallucination"]
    assert inspection.detected_language == "fr"
    assert inspection.is_language_mismatched
    assert inspection.num_stalls == 1
    assert inspection.num_looped_words == 15
    assert inspection.num_silent_words == 4
    assert inspection.num_simultaneous_words == 0
    assert inspection.speech_s == pytest.approx(end_s + 20)
    assert 0.3 < inspection.uncovered_speech_s / inspection.speech_s < 0.6


def test_statuses_and_their_order():
    words, speech, cut = counted(0, 10), [Span(0, 10)], {"status": "partial", "reasons": ("cut",)}
    assert status(words, speech, **cut) == "partial"
    assert status(words, [Span(0, 30)], num_redecoded=1) == "partial"
    assert status(words, speech, num_redecoded=1) == "redecoded"
    assert status([], []) == "empty"
    assert status([], [], **cut) == "partial"


def test_all_reasons_are_kept():
    cut = {"status": "partial", "reasons": ("cut short",), "num_redecoded": 2}
    assert reasons(counted(0, 10), [Span(0, 30)], **cut) == (
        "cut short",
        "stalls fixed by a retry: 2",
        "stall at 10.5-30.0 s: 19.5 s of speech without a word",
        "coverage at 10.5-30.0 s: 19.5 s of speech without a word",
    )
    assert "4.0 s of speech without a word" in reasons([], [Span(0, 4)])[0]


def test_a_recording_without_speech_is_fully_covered():
    assert inspect([], [], None, CONFIG).uncovered_speech_s == 0
