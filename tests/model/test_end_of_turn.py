"""When somebody has finished speaking, by heads that are written down here."""

import numpy as np
import pytest

from nightscribe.model.words import VadTimes, turn_ends_s
from nightscribe.records import Word

TIMES = VadTimes(frame_rate_hz=10.0, lead_frames=5)
WORDS = [Word("one", 2.0, 2.3, 0.9), Word("two", 2.5, 2.8, 0.9), Word("three", 6.0, 6.4, 0.9)]


def heads(*sure_spans, num_steps=120, num_heads=4):
    """Sure that nobody speaks in these spans of steps, by the head of two seconds alone."""
    vad_TH = np.full((num_steps, num_heads), 0.1)
    for first, end in sure_spans:
        vad_TH[first:end, 2] = 0.9
    return vad_TH


def test_a_turn_ends_when_the_head_becomes_sure_after_words():
    vad_TH = heads((35, 60), (72, 110))
    assert turn_ends_s(vad_TH, WORDS, TIMES, 12.0) == pytest.approx([3.0, 6.7])


def test_silence_before_words_and_a_second_doubt_end_nothing():
    vad_TH = heads((12, 20), (35, 40), (45, 60))
    assert turn_ends_s(vad_TH, WORDS[:2], TIMES, 12.0) == pytest.approx([3.0])


def test_the_first_second_says_nothing():
    words = [Word("one", 0.0, 0.2, 0.9)]
    assert turn_ends_s(heads((8, 30)), words, TIMES, 12.0) == []
    assert turn_ends_s(heads((14, 30)), words, TIMES, 12.0) == pytest.approx([0.9])


def test_what_is_heard_behind_the_recording_is_no_part_of_it():
    assert turn_ends_s(heads((80, 110)), WORDS, TIMES, 7.0) == []


def test_a_model_without_heads_hears_nobody_finish():
    assert turn_ends_s(np.zeros((50, 0)), WORDS, TIMES, 5.0) == []
