"""Sizes of a checkpoint that follow from others."""

from dataclasses import replace

import pytest

from tests.model.reference import SMALL_MIMI


def test_frames_and_hops_follow_from_the_rates():
    assert SMALL_MIMI.frame_samples == 1920
    assert SMALL_MIMI.hop_samples == 960
    assert SMALL_MIMI.positions_per_frame == 2
    assert replace(SMALL_MIMI, frame_rate_hz=25.0).positions_per_frame == 1


@pytest.mark.parametrize("frame_rate_hz", [12.4, 40.0])
def test_a_frame_is_a_whole_number_of_hops(frame_rate_hz):
    with pytest.raises(ValueError, match=f"{frame_rate_hz} frames a second"):
        _ = replace(SMALL_MIMI, frame_rate_hz=frame_rate_hz).frame_samples


def test_convolutions_and_transformer_agree_on_their_width():
    with pytest.raises(ValueError, match="give 48 channels, its transformer expects 32"):
        replace(SMALL_MIMI, seanet_dim=48)
