import numpy as np

from nightscribe.engine.encoder_prefetch import piece_of
from nightscribe.engine.stream import Stream


def test_silence_is_the_same_however_a_stream_is_cut():
    stream = Stream("a", np.arange(1, 11, dtype=np.int16), 11, num_silent_samples=7)
    whole_N = np.pad(np.arange(1, 11, dtype=np.int16), (7, 5))
    np.testing.assert_array_equal(stream.whole_samples(frame_samples=2), whole_N)
    for width in range(1, 23):
        cut_N = np.zeros(0, np.int16)
        for first in range(0, 22, width):
            num_silent, samples_N = piece_of(stream, first, first + width)
            cut_N = np.concatenate((cut_N, np.zeros(num_silent, np.int16), samples_N))
            cut_N = np.pad(cut_N, (0, min(first + width, 22) - len(cut_N)))
        np.testing.assert_array_equal(cut_N, whole_N)
