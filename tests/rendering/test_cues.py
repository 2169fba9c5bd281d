from itertools import pairwise

import pysubs2
import pytest
import srt
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscribe.records import Span, Word
from nightscribe.rendering.cues import GAP_MS, HOLD_MS, cues, reading_speed, render_srt
from nightscribe.rendering.document import Document, RenderingConfig, Speaker, monologue
from tests.rendering.test_formats import spoken_words

CONFIG = RenderingConfig()
configs = st.builds(
    RenderingConfig,
    max_line_chars=st.integers(8, 60),
    max_lines=st.integers(1, 3),
    max_cue_s=st.sampled_from([1.0, 4.0, 7.0]),
)


def speak(text, step_s=0.3, start_s=0.0):
    words, time_s = [], start_s
    for part in text.split():
        words.append(Word(part, time_s, time_s + step_s, 0.9))
        time_s += step_s
    return words


def lines_of(cue):
    return [" ".join(word.text for word in line) for line in cue.lines]


@settings(max_examples=300)
@given(spoken_words(), configs)
def test_cues_keep_every_limit_a_single_word_does_not_break(words, config):
    for cue in cues(monologue("talk", words), config):
        assert len(cue.lines) <= config.max_lines or len(cue.words) == 1
        for line, line_words in zip(lines_of(cue), cue.lines, strict=True):
            assert len(line) <= config.max_line_chars or len(line_words) == 1
        last_start_ms = round(cue.words[-1].start_s * 1000)
        assert cue.end_ms - cue.start_ms <= max(
            config.max_cue_s * 1000, last_start_ms + 1 - cue.start_ms
        )
        if len(cue.words) > 1:
            assert last_start_ms - cue.start_ms <= config.max_cue_s * 1000


@given(spoken_words(), configs)
def test_cues_hold_all_words_in_order(words, config):
    shown = [word for cue in cues(monologue("talk", words), config) for word in cue.words]
    assert shown == list(words)


def test_lines_are_balanced():
    (cue,) = cues(
        monologue("talk", speak("we balance the two lines of a long subtitle here")),
        RenderingConfig(),
    )
    assert lines_of(cue) == ["we balance the two lines", "of a long subtitle here"]


def test_a_cue_ends_at_a_comma_rather_than_in_the_middle_of_a_clause():
    words = speak(
        "when the evening came at last to the old harbour town, nobody could find the boat"
    )
    first, second = cues(monologue("talk", words), RenderingConfig(max_line_chars=34))
    assert first.words[-1].text == "town,"
    assert second.words[0].text == "nobody"


@pytest.mark.parametrize(
    ("comma_after", "cut_after"), [(1, 10), (2, 10), (5, 10), (6, 6), (9, 9), (11, 10)]
)
def test_a_comma_ends_a_cue_in_the_second_half_of_what_fits_and_not_before(comma_after, cut_after):
    texts = [f"w{number:02}" for number in range(1, 16)]
    texts[comma_after - 1] = "so,"
    ten_words = RenderingConfig(max_line_chars=39, max_lines=1)
    first, *_ = cues(monologue("talk", speak(" ".join(texts))), ten_words)
    assert len(first.words) == cut_after


def test_a_short_cue_stays_until_it_can_be_read_but_never_over_the_next():
    words = [Word("Yes.", 1.0, 1.2, 0.9), Word("No.", 1.5, 1.7, 0.9)]
    first, second = cues(monologue("talk", words), RenderingConfig())
    assert (first.start_ms, first.end_ms) == (1000, 1500)
    assert (second.start_ms, second.end_ms) == (1500, 2333)


def test_cues_of_one_speaker_never_overlap_and_those_of_two_may():
    left, right = speak("hello there how are you"), speak("fine thanks and you", start_s=0.2)
    document = Document("call", (Speaker("L", tuple(left)), Speaker("R", tuple(right))))
    shown = cues(document, RenderingConfig(max_cue_s=0.7))
    assert [cue.start_ms for cue in shown] == sorted(cue.start_ms for cue in shown)
    for name in ("L", "R"):
        own = [cue for cue in shown if cue.speaker == name]
        assert all(cue.end_ms <= following.start_ms for cue, following in pairwise(own))


@pytest.mark.parametrize("key", ["max_lines", "max_cue_s", "utterance_gap_s"])
def test_limits_must_be_positive(key):
    with pytest.raises(ValueError, match=f"{key} must be positive, got 0"):
        RenderingConfig(**{key: 0})


def talk(words, speech=()):
    return Document("talk", (Speaker("", tuple(words), speech=tuple(speech)),))


def test_a_word_before_a_pause_is_shown_as_long_as_it_is_spoken_and_a_short_hold():
    words = [*speak("it was in"), Word("nineteen", 0.9, 6.1, 0.9), *speak("eighty", start_s=6.1)]
    first, second = cues(talk(words, [Span(0.0, 1.4), Span(6.0, 6.5)]), RenderingConfig())
    assert [word.text for word in first.words] == ["it", "was", "in", "nineteen"]
    assert first.end_ms <= 1_400 + HOLD_MS
    (unknown_speech, _) = cues(talk(words), RenderingConfig())
    assert unknown_speech.end_ms <= 1_900 + HOLD_MS
    assert second.start_ms == 6_100


def test_the_stretched_last_word_of_an_utterance_is_not_a_cue_of_its_own():
    words = [*speak("one two three four five six"), Word("seven.", 1.8, 9.0, 0.9)]
    (cue,) = cues(talk(words), RenderingConfig())
    assert len(cue.words) == 7
    assert cue.end_ms < 4_000


def test_the_last_cue_of_an_utterance_takes_words_from_the_one_before():
    text = "we had to walk for more than an hour through the wet forest until we reached the lake"
    parts = cues(talk(speak(text)), RenderingConfig())
    assert len(parts) == 2
    assert min(len(cue.words) for cue in parts) > 6


def test_a_line_breaks_at_a_clause_where_both_lines_are_long_enough():
    (cue,) = cues(talk(speak("when she arrived, the others had left already")), RenderingConfig())
    assert lines_of(cue) == ["when she arrived,", "the others had left already"]
    (cue,) = cues(talk(speak("well, all of the others had left us already")), RenderingConfig())
    assert lines_of(cue)[0] != "well,"


def test_the_name_of_a_speaker_counts_as_part_of_the_first_line():
    words = tuple(speak("this is a rather long answer to the question that you asked me"))
    document = Document("call", (Speaker("Agent Smith", words), Speaker("Customer", ())))
    blocks = list(srt.parse(render_srt(document, RenderingConfig())))
    lines = [line for block in blocks for line in block.content.splitlines()]
    assert lines[0].startswith("Agent Smith: ")
    assert max(map(len, lines)) <= 42


def test_a_cue_is_not_held_over_the_cue_of_another_speaker():
    question = tuple(speak("could you tell me your number", step_s=0.1))
    answer = tuple(speak("of course", start_s=0.8))
    document = Document("call", (Speaker("L", question), Speaker("R", answer)))
    first, second = cues(document, RenderingConfig())
    assert first.end_ms <= second.start_ms == 800


def test_two_cues_of_a_speaker_have_a_gap_where_there_is_room():
    words = [*speak("That was the first sentence."), *speak("This is another.", start_s=1.6)]
    first, second = cues(talk(words), RenderingConfig())
    assert second.start_ms - first.end_ms == GAP_MS


@given(spoken_words(), st.lists(st.floats(0, 4_100), max_size=8))
def test_cues_end_when_they_are_read_or_shortly_after_they_are_spoken(words, times_s):
    edges_s = sorted(times_s)
    speech = [Span(*span) for span in zip(edges_s[::2], edges_s[1::2], strict=False)]
    config = RenderingConfig()
    for cue in cues(talk(words, speech), config):
        spoken_ms = max(round(word.start_s * 1000) for word in cue.words) + 1000 * config.max_word_s
        shortest_ms = cue.start_ms + 1000 * config.min_cue_s
        assert cue.end_ms <= max(spoken_ms + HOLD_MS, shortest_ms) + 1


def test_the_reading_speed_is_that_of_the_cues_as_they_are_shown():
    slow = speak("and then we went home.", step_s=0.6)
    fast = speak("nobody can read quite as fast as this was spoken.", step_s=0.1, start_s=20)
    speed = reading_speed(monologue("talk", [*slow, *fast]), RenderingConfig())
    assert (speed.num_cues, speed.num_fast) == (2, 1)
    # 49 characters; a second of hold after 1 s of speech.
    assert speed.fastest_chars_per_s == pytest.approx(49 / 2.0, abs=0.1)
    assert reading_speed(monologue("talk", []), RenderingConfig()).num_cues == 0


@given(spoken_words(), st.lists(st.floats(0, 60), max_size=6))
def test_an_independent_reader_finds_the_style_kept(words, times_s):
    """pysubs2 reads the file; its durations, gaps and lines are those of the cues."""
    ordered = sorted(times_s[: len(times_s) // 2 * 2])
    speech = tuple(Span(*pair) for pair in zip(ordered[::2], ordered[1::2], strict=True))
    document = Document("talk", (Speaker("", words, speech=speech),))
    shown = cues(document, CONFIG)
    events = pysubs2.SSAFile.from_string(render_srt(document, CONFIG), format_="srt").events
    assert [(one.start, one.end) for one in events] == [(cue.start_ms, cue.end_ms) for cue in shown]
    for one in events:
        assert one.duration > 0
        assert one.plaintext.count("\n") < CONFIG.max_lines
    for cue, (one, following) in zip(shown, pairwise(events), strict=False):
        # Words may start at the same moment: each is shown for a millisecond at least.
        assert one.end <= max(following.start, round(cue.words[-1].start_s * 1000) + 1)
