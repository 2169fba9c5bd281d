import numpy as np

from nightscribe.serving.turns import TurnDetection, TurnDetector

NO_PAUSE, PAUSE = np.array([0.9, 0.4, 0.1, 0.0]), np.array([0.9, 0.9, 0.9, 0.0])


def detector(**settings):
    return TurnDetector(TurnDetection(**settings), 0.08, delay_steps=6, prefix_frames=0)


def test_a_head_ends_a_turn_whose_last_words_come_a_delay_later():
    turns = detector()
    assert not turns.ends(20, PAUSE)  # no turn has begun
    assert (turns.begins(21), turns.begins(25)) == (True, False)
    assert not turns.ends(30, NO_PAUSE)
    assert turns.ends(31, PAUSE)
    assert not turns.ends(32, PAUSE)
    assert turns.end_s == 31 * 0.08
    assert [step for step in range(31, 40) if turns.is_complete(step)] == [38]
    assert turns.begins(40)


def test_the_heads_are_not_asked_in_their_first_second():
    turns = detector()
    turns.begins(3)
    assert not turns.ends(11, PAUSE)
    assert turns.ends(12, PAUSE)


def test_silence_ends_a_turn_where_a_head_is_undecided_or_missing():
    turns = detector(silence_s=1.0)
    turns.begins(20)
    nothing = np.zeros(0)
    assert [step for step in range(21, 40) if turns.ends(step, nothing)] == [33]
    assert turns.end_s == 27 * 0.08
    assert turns.is_complete(33)
