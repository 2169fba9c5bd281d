"""What the sets that speakers are measured on promise."""

import random

import numpy as np
import pytest

from nightscribe.records import Word
from ops.speakers import casts
from ops.speakers.casts import chosen_voices, pair_scores
from ops.speakers.clips import ACTOR_OF
from ops.speakers.compare import drawn
from ops.speakers.dialogues import Spoken
from ops.speakers.words import num_right


@pytest.mark.parametrize("seed", range(20))
def test_two_persons_of_one_actor_never_meet(seed):
    names = drawn(sorted(ACTOR_OF), 6, "actors", random.Random(seed))
    assert len({ACTOR_OF[name] for name in names}) == len(set(names)) == 6


def test_a_voice_taken_for_another_costs_precision_and_a_voice_taken_for_two_costs_recall():
    truth = ["a", "a", "b", "b"]
    assert pair_scores(truth, np.array([0, 0, 1, 1])) == pytest.approx((1.0, 1.0, 1.0))
    precision, recall, _ = pair_scores(truth, np.array([0, 0, 0, 0]))
    assert (precision, recall) == (2 / 6, 1.0)
    precision, recall, _ = pair_scores(truth, np.array([0, 0, 1, 2]))
    assert (precision, recall) == (1.0, 1 / 2)


def test_voices_of_a_cast_are_those_that_stand_alone_and_then_the_purest_mixes():
    seconds = {"a": 9.0, "b": 9.0, "c*0.70+a*0.30": 9.0, "b*0.40+c*0.60": 9.0, "d*0.90+a*0.10": 3.0}
    assert chosen_voices(seconds, 1) == ["a"]
    assert chosen_voices(seconds, 2) == ["a", "b"]
    assert chosen_voices(seconds, 9) == ["a", "b", "c*0.70+a*0.30"]


def test_recordings_of_a_cast_that_were_done_are_neither_done_again_nor_others(
    tmp_path, monkeypatch
):
    asked = []

    def found_in(number):
        asked.append(number)
        yield f"voice {number}", [float(number)]

    monkeypatch.setattr(casts, "found_in", found_in)
    monkeypatch.setattr(casts, "recordings", lambda clips: iter(clips))
    whole = casts.found_in_all([1, 2, 3, 4], tmp_path / "whole")
    casts.found_in_all([1, 2], tmp_path / "parts")
    asked.clear()
    found = casts.found_in_all([1, 2, 3, 4], tmp_path / "parts")
    assert asked == [3, 4]
    assert [[tuple(one) for one in some] for some in found] == whole


@pytest.mark.parametrize(
    ("found", "right"),
    [
        (["one", "one", "two", "two"], 4),
        (["two", "two", "one", "one"], 4),
        (["one", "two", "two", "two"], 3),
        (["one", "one", "one", "one"], 2),
        (["one", "one", "two", "three"], 3),
    ],
)
def test_names_of_found_speakers_do_not_matter_but_each_is_one_person(found, right):
    spoken = [Spoken("a", 0.0, 2.0, None), Spoken("b", 2.2, 4.0, None)]
    starts_s = [0.1, 1.5, 2.1, 3.8]
    words = [
        Word("x", start_s, start_s + 0.2, 1.0, speaker)
        for start_s, speaker in zip(starts_s, found, strict=True)
    ]
    assert num_right(words, spoken) == right
