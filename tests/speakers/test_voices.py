"""What is segmented and embedded of a shard, with networks that only count."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from nightscribe.speakers.segmentation_network import SAMPLE_RATE_HZ
from nightscribe.speakers.voices import voices_of
from nightscribe.speakers.weights import SpeakerNetworks

NUM_FRAMES, NUM_DIMS = 589, 4


class OneSpeaker:
    """Hears the first of three local speakers in some parts of each window."""

    def __init__(self, spans_s=((0, 10),)):
        self.spans_s, self.num_windows = spans_s, 0

    def active(self, sound_WN):
        self.num_windows += len(sound_WN)
        active_WTK = torch.zeros(len(sound_WN), NUM_FRAMES, 3, dtype=torch.bool)
        for start_s, end_s in self.spans_s:
            active_WTK[:, round(start_s * 58.9) : round(end_s * 58.9), 0] = True
        return active_WTK


class Counting:
    num_dims, num_frames = NUM_DIMS, 0

    def __call__(self, features_BTF):
        self.num_frames += features_BTF.shape[0] * features_BTF.shape[1]
        return torch.ones(len(features_BTF), NUM_DIMS)


@pytest.mark.parametrize("duration_s", [10, 35, 60, 95])
def test_all_speech_is_in_a_voice_but_only_three_quarters_of_it_are_embedded(duration_s):
    segmentation, embedding = OneSpeaker(), Counting()
    networks = SpeakerNetworks(segmentation, embedding, torch.device("cpu"))
    sound_N = np.random.default_rng(1).integers(-3000, 3000, duration_s * SAMPLE_RATE_HZ)
    voices = voices_of(sound_N.astype(np.int16), SAMPLE_RATE_HZ, networks)
    spans = sorted(span for voice in voices for span in voice.spans)
    assert spans[0].start_s < 0.1
    assert spans[-1].end_s > duration_s - 0.1
    assert all(abs(b.start_s - a.end_s) < 0.1 for a, b in pairwise(spans))  # a few frames
    assert sum(voice.clean_s for voice in voices) == pytest.approx(duration_s, abs=0.5)
    assert segmentation.num_windows <= duration_s / 10 + 1
    assert embedding.num_frames <= 100 * (0.75 * duration_s + 0.5)


@pytest.mark.parametrize(
    ("spans_s", "num_voices"), [(((1, 1.5), (3, 3.5)), 1), (((1, 1.5), (8, 8.5)), 2)]
)
def test_short_pieces_are_one_voice_only_when_they_are_near_each_other(spans_s, num_voices):
    networks = SpeakerNetworks(OneSpeaker(spans_s), Counting(), torch.device("cpu"))
    sound_N = np.zeros(10 * SAMPLE_RATE_HZ, np.int16)
    voices = voices_of(sound_N, SAMPLE_RATE_HZ, networks)
    assert len(voices) == num_voices
    assert sum(len(voice.spans) for voice in voices) == 2
