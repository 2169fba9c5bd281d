import pytest

from pipeline.guards.config import GuardsConfig
from pipeline.guards.inspection import inspect, judge
from pipeline.guards.spans import Span
from tests.guards.sounds import counted, said
from tests.guards.test_guards import FRENCH

CONFIG = GuardsConfig()


def verdict(words, speech, damage=None, num_redecoded=0):
    inspection = inspect(words, speech, "en", CONFIG)
    return judge(len(words), damage, inspection, num_redecoded)


def test_a_good_transcript_is_ok():
    inspection = inspect(counted(0, 10), [Span(0, 10)], "en", CONFIG)
    assert inspection.findings == ()
    assert inspection.coverage == 1.0
    assert verdict(counted(0, 10), [Span(0, 10)]).status == "ok"


def test_every_guard_fills_its_own_column():
    french = said(FRENCH)
    end_s = french[-1].end_s
    words = [*french, *said("la la la " * 5, end_s), *counted(end_s + 40, end_s + 42)]
    speech = [Span(0, end_s + 20)]
    inspection = inspect(words, speech, "en", CONFIG)
    guards = [finding.guard for finding in inspection.findings]
    assert guards == ["language", "loop", "stall", "coverage", "hallucination"]
    assert inspection.language_heard == "fr"
    assert inspection.is_language_mismatched
    assert inspection.num_stalls == 1
    assert inspection.num_looped_words == 15
    assert inspection.num_silent_words == 4
    assert inspection.num_simultaneous_words == 0
    assert inspection.speech_s == pytest.approx(end_s + 20)
    assert 0.4 < inspection.coverage < 0.7


def test_statuses_and_their_order():
    words, speech = counted(0, 10), [Span(0, 10)]
    assert verdict(words, speech, damage="cut short").status == "partial"
    assert verdict(words, [Span(0, 30)]).status == "partial"
    assert verdict(words, speech, num_redecoded=1).status == "redecoded"
    assert verdict([], []).status == "empty"
    assert verdict([], [], damage="cut short").status == "partial"


def test_reasons_say_what_where_and_how_much():
    reasons = verdict(counted(0, 10), [Span(0, 30)], damage="cut short").reasons
    assert reasons[0] == "cut short"
    assert "stall at 10.5-30.0 s: 19.5 s of speech without a word" in reasons
    assert verdict([], [Span(0, 4)]).reasons == (
        "stall at 0.0-4.0 s: 4.0 s of speech without a word",
        "coverage at 0.0-4.0 s: 4.0 s of speech without a word",
    )


def test_nobody_speaking_is_fully_covered():
    assert inspect([], [], None, CONFIG).coverage == 1.0
