from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.records import SpeakerSpan
from nightscribe.scoring.speaker_errors import SpeakerErrors, assignment, speaker_errors

REFERENCE = [SpeakerSpan("a", 0, 10), SpeakerSpan("b", 10, 20), SpeakerSpan("a", 18, 22)]


def errors(*spans):
    return speaker_errors(REFERENCE, [SpeakerSpan(*span) for span in spans])


def test_other_names_are_no_error():
    found = errors(("x", 0, 10), ("y", 10, 20), ("x", 18, 22))
    assert found.diarization_error_rate == found.jaccard_error_rate == 0
    assert found.reference_s == 24


def test_nothing_found_is_all_missed():
    assert errors().diarization_error_rate == 1
    assert errors().jaccard_error_rate == 1


def test_every_kind_of_error_counts_its_seconds():
    found = errors(("x", 0, 8), ("y", 8, 20), ("y", 21, 25))
    assert found.confused_s == pytest.approx(3)  # 8 to 10 and 21 to 22
    assert found.missed_s == pytest.approx(3)  # 18 to 21, the second voice
    assert found.false_alarm_s == pytest.approx(3)  # 22 to 25


def test_one_speaker_for_two_confuses_the_one_who_speaks_less():
    assert errors(("x", 0, 18), ("x", 20, 22)).confused_s == pytest.approx(8)


def test_a_collar_is_not_scored():
    reference, late = [SpeakerSpan("a", 1, 5)], [SpeakerSpan("a", 1.2, 5.2)]
    assert speaker_errors(reference, late).diarization_error_rate == pytest.approx(0.1)
    assert speaker_errors(reference, late, collar_s=0.25).diarization_error_rate == 0


def test_errors_of_recordings_add_up():
    one, other = errors(), errors(("x", 0, 22))
    assert (one + other).reference_s == 48
    assert (one + other).missed_s == one.missed_s + other.missed_s
    assert SpeakerErrors() + other == other  # with which every sum begins


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_an_assignment_has_the_greatest_sum_of_all(num_rows, num_columns, seed):
    gains = np.random.default_rng(seed).integers(0, 9, (num_rows, num_columns)).astype(float)
    found = assignment(gains)
    size = max(num_rows, num_columns)
    square = np.zeros((size, size))
    square[:num_rows, :num_columns] = gains
    best = max(sum(square[r, c] for r, c in enumerate(p)) for p in permutations(range(size)))
    assert sum(gains[r, c] for r, c in found) == best
    assert len({r for r, _ in found}) == len({c for _, c in found}) == len(found)
