"""Each guard alone: what it must find and what it must not report."""

import pytest

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.hallucinations import (
    loops,
    num_looped_words,
    simultaneous_words,
    words_over_silence,
)
from nightscribe.guards.inspection import detect_language, language_mismatch
from nightscribe.guards.stalls import holes, stalls, uncovered_speech_s
from nightscribe.records import Span, Word
from tests.guards.sounds import counted, speak

CONFIG = GuardsConfig()
ENGLISH = (
    "we never thought that the weather could change so quickly in the middle of the summer "
    "but the captain had already told everybody to come back before the evening"
)
FRENCH = (
    "nous ne pensions pas que le temps pouvait changer si vite au milieu de l'\u00e9t\u00e9 "
    "mais le capitaine avait d\u00e9j\u00e0 dit \u00e0 tout le monde de revenir avant le soir"
)


def spans_of(findings):
    return [(finding.start_s, finding.end_s) for finding in findings]


def test_a_stall_is_speech_between_words_without_a_word():
    words = [*counted(0, 10), *counted(30, 40)]
    (stall,) = stalls(words, [Span(0, 12), Span(13, 40)], CONFIG)
    assert (stall.start_s, stall.end_s) == pytest.approx((10.5, 29.5))
    assert stall.guard == "stall"
    assert stall.detail == "18.0 s of speech without a word"


def test_a_pause_is_no_stall():
    words = [*counted(0, 10), *counted(30, 40)]
    assert stalls(words, [Span(0, 10), Span(30, 40)], CONFIG) == []


@pytest.mark.parametrize("words", [counted(0, 10), counted(30, 40)], ids=["at the end", "ahead"])
def test_a_stall_may_last_to_either_end(words):
    assert len(stalls(words, [Span(0, 40)], CONFIG)) == 1


def test_a_word_stretched_over_a_stall_does_not_hide_it():
    words = [*counted(0, 9.5), Word("last", 9.5, 30.0, 0.9), *counted(30, 40)]
    assert spans_of(stalls(words, [Span(0, 40)], CONFIG)) == [pytest.approx((11.0, 29.5))]


def test_a_transcript_without_words_is_a_stall_after_little_speech():
    assert spans_of(stalls([], [Span(2, 3.5)], CONFIG)) == [(2, 3.5)]
    assert stalls([], [Span(2, 2.5)], CONFIG) == []
    assert stalls([], [], CONFIG) == []


def test_holes_add_up_to_uncovered_speech():
    words = [*counted(0, 4), *counted(8, 12), *counted(15, 20)]
    speech = [Span(0, 20)]
    assert spans_of(holes(words, speech, CONFIG)) == [(4.5, 7.5), (12.5, 14.5)]
    assert uncovered_speech_s(words, speech, CONFIG) == pytest.approx(5.0)
    assert stalls(words, speech, CONFIG) == []


def test_a_loop_is_found_by_its_shortest_phrase():
    words = speak("so he said " + "thank you very much " * 6 + "and left")
    (loop,) = loops(words, CONFIG)
    assert loop.detail == '"thank you very much" 6 times in a row'
    assert (loop.start_s, loop.end_s) == pytest.approx((1.2, 10.8))
    assert num_looped_words(words, CONFIG) == 24


@pytest.mark.parametrize(("repeats", "num_found"), [(2, 0), (3, 0), (4, 1)])
def test_a_long_phrase_is_a_loop_from_the_fourth_time_on(repeats, num_found):
    words = speak("first " + "we are closed on bank holidays " * repeats + "last")
    assert len(loops(words, CONFIG)) == num_found


@pytest.mark.parametrize(("num_words", "num_found"), [(11, 0), (12, 1)])
def test_a_short_phrase_is_a_loop_from_twelve_words_on(num_words, num_found):
    assert len(loops(speak("first " + "no " * num_words + "last"), CONFIG)) == num_found


def test_case_and_punctuation_do_not_hide_a_loop():
    assert num_looped_words(speak("Yes, sir. yes sir " * 4), CONFIG) == 16


@pytest.mark.parametrize(
    "text",
    [
        "no no no no no please",
        "one two three four five six seven eight nine ten eleven twelve thirteen",
        "a rose is a rose is a rose",
        "",
    ],
)
def test_short_repetitions_are_no_loop(text):
    assert loops(speak(text), CONFIG) == []


def test_words_over_silence_are_found_and_words_near_speech_are_not():
    words = [*counted(0, 5), *counted(20, 22), *counted(30, 35)]
    (finding,) = words_over_silence(words, [Span(0, 5.2), Span(30.3, 35)], CONFIG)
    assert (finding.start_s, finding.end_s) == (20, 22)
    assert finding.detail == '4 words over silence: "w0 w1 w2 w3"'


@pytest.mark.parametrize(("apart_s", "num_found"), [(0.45, 0), (0.55, 1)])
@pytest.mark.parametrize("side", ["before", "after"])
def test_words_may_lie_half_a_second_beside_the_speech_they_belong_to(side, apart_s, num_found):
    speech = Span(10, 12)
    start_s = speech.end_s + apart_s if side == "after" else speech.start_s - apart_s - 0.4
    words = [Word("so", start_s, start_s + 0.4, 0.9), Word("there", start_s, start_s + 0.4, 0.9)]
    assert len(words_over_silence(words, [speech], CONFIG)) == num_found


def test_one_word_over_silence_is_not_reported():
    assert words_over_silence(counted(20, 20.5), [Span(0, 5)], CONFIG) == []


def test_words_that_share_one_time_are_found():
    words = [*counted(0, 2), *(Word(text, 5.0, 5.1, 0.2) for text in ["thanks", "for", "watching"])]
    (finding,) = simultaneous_words(words, CONFIG)
    assert finding.detail == '3 words at one time: "thanks for watching"'
    assert simultaneous_words(words[:-1], CONFIG) == []


def test_another_language_than_expected_is_found():
    (mismatch,) = language_mismatch(speak(FRENCH), "en", CONFIG)
    assert mismatch.detail.startswith("detected fr (")
    assert detect_language(speak(FRENCH), CONFIG).code == "fr"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(ENGLISH, "en"), (ENGLISH, "en-US"), (FRENCH, "fr_CA"), (FRENCH, None), ("merci", "en")],
)
def test_the_expected_language_and_too_few_words_are_not_reported(text, expected):
    assert language_mismatch(speak(text), expected, CONFIG) == []


def test_thresholds_are_checked():
    with pytest.raises(ValueError, match="min_coverage must be from 0 to 1, got 80"):
        GuardsConfig(min_coverage=80)
    with pytest.raises(ValueError, match="stall_s must be positive, got 0"):
        GuardsConfig(stall_s=0)
    with pytest.raises(ValueError, match=r"quietest_speech_dbfs \(-10\) must not exceed"):
        GuardsConfig(quietest_speech_dbfs=-10)
