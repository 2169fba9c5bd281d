"""What the sets that speakers are measured on promise."""

import random

import numpy as np
import pytest

from nightscribe.records import Word
from ops.speakers.casts import Piece, pair_scores, recordings
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


def test_a_piece_comes_again_only_when_all_of_its_voice_were_used():
    pieces = {voice: [Piece(2.0, f"{voice}{n}".encode()) for n in range(50)] for voice in "abc"}
    said = [one for recording in recordings(pieces) for one in recording]
    for voice in "abc":
        vectors = [heard.vector for name, heard in said if name == voice]
        assert len(set(vectors[:50])) == len(set(vectors[50:100])) == 50


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
