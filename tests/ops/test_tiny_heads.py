import numpy as np
import pytest

from nightscribe.training.targets import TimedTokens
from ops.tiny.heads import area_under_curve, measure_heads

FRAME_RATE_HZ = 12.5
WORDS = [TimedTokens((0,), 2.0, 2.4)]
HEARD_S = np.arange(1, 101) / FRAME_RATE_HZ
HORIZONS_S = (0.5, 1.0, 2.0, 3.0)


def truth():
    """Nobody speaks soon: before the word's approach, and from its end on."""
    return np.stack([(h < 2.0 - HEARD_S) | (HEARD_S >= 2.4) for h in HORIZONS_S], axis=1)


def test_heads_that_know_are_always_right():
    found = measure_heads(WORDS, truth().astype(float), FRAME_RATE_HZ)
    assert list(found) == ["0.5 s", "1 s", "2 s", "3 s"]
    for horizon in found.values():
        assert (horizon["right"], horizon["auc"]) == (1.0, 1.0)
    assert found["3 s"]["quiet_share"] < found["0.5 s"]["quiet_share"] < 1


def test_heads_that_always_say_the_same_are_no_better_than_chance():
    found = measure_heads(WORDS, np.full((100, 4), 0.9), FRAME_RATE_HZ)
    for horizon in found.values():
        assert horizon["auc"] == 0.5
        assert horizon["right"] == horizon["quiet_share"]


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order():
    positive, negative = np.array([0.1, 0.4, 0.7]), np.array([0.4, 0.2])
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert area_under_curve(positive, negative) == pytest.approx(np.mean(pairs))
