"""What the sets that speakers are measured on promise."""

import random

import numpy as np
import pytest

from ops.speakers.casts import Piece, pair_scores, recordings
from ops.speakers.clips import ACTOR_OF
from ops.speakers.compare import drawn


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
