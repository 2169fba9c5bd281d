"""Frames go through the memory of both processes unchanged."""

import numpy as np

from nightscribe.serving.rings import Rings, RingShape


def test_what_is_written_is_read_also_around_the_end_of_a_ring():
    rings = Rings.create(RingShape(num_channels=2, num_frames=4, frame_samples=3))
    samples_N = np.arange(1, 10, dtype=np.int16)
    rings.write(1, 3, samples_N)
    np.testing.assert_array_equal(rings.read(1, 3, 3), samples_N)
    np.testing.assert_array_equal(rings.read(1, 4, 1), samples_N[3:6])
    assert not rings.read(0, 0, 4).any()
