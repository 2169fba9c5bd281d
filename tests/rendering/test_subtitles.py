from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscribe.records import Word
from nightscribe.rendering.document import Document, RenderingConfig, Speaker, monologue
from nightscribe.rendering.subtitles import cues
from tests.rendering.test_formats import spoken_words

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
