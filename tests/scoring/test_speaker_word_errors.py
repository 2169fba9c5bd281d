"""cpWER and tcpWER against what the package `meeteval` 0.4.3 counted on the same texts."""

import random

import pytest

from nightscribe.scoring.speaker_word_errors import (
    SpokenText,
    cp_word_errors,
    tcp_word_errors,
)

WORDS = ["aa", "bbb", "c", "dddd", "e", "ff"]
COLLAR_S = 1.0
# By seed: errors without times, errors with times and a collar of a second, words of the reference.
COUNTED = {
    0: (18, 25, 23),
    1: (21, 22, 6),
    2: (31, 34, 5),
    3: (12, 13, 15),
    4: (11, 15, 10),
    5: (33, 49, 36),
    6: (33, 50, 23),
    7: (14, 18, 19),
    8: (10, 21, 10),
    9: (24, 28, 29),
    10: (29, 43, 39),
    11: (27, 27, 27),
}


def made_up(draw, side):
    """Up to a dozen spans of up to three speakers, each of up to six words."""
    spoken, end_s_of = [], {}
    for _ in range(draw.randint(1, 12)):
        speaker = f"{side}{draw.randrange(3)}"
        start_s = end_s_of.get(speaker, 0) + draw.uniform(0, 4)
        end_s_of[speaker] = end_s = start_s + draw.uniform(0.2, 5)
        text = " ".join(draw.choice(WORDS) for _ in range(draw.randint(0, 6)))
        spoken.append(SpokenText(speaker, text, round(start_s, 2), round(end_s, 2)))
    return spoken


def both_sides(seed):
    draw = random.Random(seed)
    return made_up(draw, "reference "), made_up(draw, "found ")


@pytest.mark.parametrize(("seed", "counted"), COUNTED.items())
def test_errors_are_those_that_meeteval_counts(seed, counted):
    reference, hypothesis = both_sides(seed)
    cp, tcp = (
        cp_word_errors(reference, hypothesis),
        tcp_word_errors(reference, hypothesis, COLLAR_S),
    )
    assert (cp.num_errors, tcp.num_errors, cp.num_reference) == counted
    assert tcp.num_reference == cp.num_reference


def test_errors_are_those_of_meeteval_where_it_is_installed():
    meeteval = pytest.importorskip("meeteval", reason="needs a C++ compiler to install")
    for seed in range(100, 150):
        reference, hypothesis = sides = both_sides(seed)
        seglst = [meeteval.io.SegLST([row(one) for one in side]) for side in sides]
        cp = meeteval.wer.wer.cp.cp_word_error_rate(*seglst)
        tcp = meeteval.wer.wer.time_constrained.tcp_word_error_rate(*seglst, collar=COLLAR_S)
        assert cp_word_errors(reference, hypothesis).num_errors == cp.errors
        assert tcp_word_errors(reference, hypothesis, COLLAR_S).num_errors == tcp.errors


def row(one):
    return {
        "session_id": "talk",
        "speaker": one.speaker,
        "words": one.text,
        "start_time": one.start_s,
        "end_time": one.end_s,
    }


def test_a_word_of_another_speaker_is_an_error_and_another_label_is_none():
    reference = [SpokenText("a", "yes we can", 0, 2), SpokenText("b", "no", 2, 3)]
    renamed = [SpokenText("x", "no", 2, 3), SpokenText("y", "yes we can", 0, 2)]
    assert cp_word_errors(reference, renamed).rate == 0
    mixed = [SpokenText("x", "can no", 1.5, 3), SpokenText("y", "yes we", 0, 1.5)]
    assert cp_word_errors(reference, mixed).num_errors == 2


def test_the_same_words_at_another_time_are_errors_beyond_the_collar():
    reference, late = [SpokenText("a", "yes we can", 0, 3)], [SpokenText("x", "yes we can", 4, 7)]
    assert tcp_word_errors(reference, late, 5.0).num_errors == 0
    assert tcp_word_errors(reference, late, 1.0).num_errors == 6
    assert cp_word_errors(reference, late).num_errors == 0


def test_nothing_said_is_no_error_rate_and_nothing_found_is_all_deleted():
    assert cp_word_errors([], []).rate is None
    assert cp_word_errors([SpokenText("a", "yes we can", 0, 3)], []).rate == 1
    assert cp_word_errors([], [SpokenText("x", "yes we can", 0, 3)]).num_errors == 3


def test_errors_of_recordings_add_up():
    total = sum((cp_word_errors(*both_sides(seed)) for seed in range(3)), cp_word_errors([], []))
    assert total.num_errors == sum(COUNTED[seed][0] for seed in range(3))
