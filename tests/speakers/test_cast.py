import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.speakers.cast import group, persons
from nightscribe.speakers.clustering import ClusteringLimits, agglomerated, in_order
from tests.speakers.made_up import NUM_DIMS, centres


def archive(num_persons, num_recordings, noise, seed=0):
    """A vector for each of two to four persons in every recording, and who they are."""
    draws, rows = np.random.default_rng(seed), centres(num_persons, seed)
    who = np.concatenate(
        [draws.choice(num_persons, draws.integers(2, 5), False) for _ in range(num_recordings)]
    )
    vectors = rows[who] + noise * draws.standard_normal((len(who), NUM_DIMS)) / np.sqrt(NUM_DIMS)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), who


@given(st.integers(0, 50), st.floats(0.2, 1.5))
def test_mutual_neighbours_give_what_the_most_alike_pair_first_gives(seed, noise):
    vectors_VD, _ = archive(5, 12, noise, seed)
    limits = ClusteringLimits(same_voice=0.6)
    expected_V = in_order(agglomerated(vectors_VD.astype(float), np.ones(len(vectors_VD)), limits))
    assert group(vectors_VD, 0.6).labels_V.tolist() == expected_V.tolist()


def test_forty_persons_in_three_hundred_recordings_are_forty_persons():
    vectors_VD, who = archive(40, 300, noise=0.4)
    assert group(vectors_VD).labels_V.tolist() == in_order(who).tolist()


@pytest.mark.parametrize(("alike", "num_persons"), [(0.72, 2), (0.85, 1)])
def test_persons_as_alike_as_actors_of_one_game_stay_apart(alike, num_persons):
    one, other = np.linalg.qr(centres(2).T)[0].T
    also = alike * one + np.sqrt(1 - alike**2) * other
    labels_V = group(np.stack([one, also]).astype(np.float32)).labels_V
    assert labels_V.max() + 1 == num_persons


def test_equal_vectors_are_one_person_and_opposite_ones_two():
    vectors_VD = centres(1).repeat(5, axis=0).astype(np.float32)
    assert group(vectors_VD).labels_V.tolist() == [0] * 5
    vectors_VD[2] *= -1
    assert group(vectors_VD).labels_V.tolist() == [0, 0, 1, 0, 0]


def test_no_voices_are_no_persons():
    assert len(group(np.zeros((0, NUM_DIMS), np.float32)).labels_V) == 0


def test_a_group_keeps_the_id_that_most_of_it_had():
    keys = [(f"recording-{n}", "speaker-1") for n in range(5)]
    before = {keys[0]: "voice-0007", keys[1]: "voice-0007", keys[2]: "voice-0002"}
    found = persons(keys, np.array([0, 0, 0, 1, 2]), before)
    assert found == ["voice-0007"] * 3 + ["voice-0008", "voice-0009"]


def test_a_group_that_falls_apart_gives_its_id_to_the_larger_part():
    keys = [(f"recording-{n}", "speaker-1") for n in range(3)]
    before = dict.fromkeys(keys, "voice-0001")
    assert persons(keys, np.array([0, 1, 1]), before) == ["voice-0002", "voice-0001", "voice-0001"]


@pytest.mark.parametrize("num_new", [0, 3])
def test_new_recordings_meet_the_same_cast(num_new):
    vectors_VD, _ = archive(6, 20 + num_new, noise=0.4)
    keys = [(f"{n:05d}", "speaker-1") for n in range(len(vectors_VD))]
    num_old = len(archive(6, 20, noise=0.4)[0])
    old = persons(keys[:num_old], group(vectors_VD[:num_old]).labels_V, {})
    now = persons(keys, group(vectors_VD).labels_V, dict(zip(keys, old, strict=False)))
    assert now[:num_old] == old
