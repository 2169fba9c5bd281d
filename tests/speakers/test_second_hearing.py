"""Speech that the segmentation network does not hear gets a speaker, and nothing else does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nightscribe.jobs.file import read_audio
from nightscribe.speakers.features import at_16_khz
from nightscribe.speakers.second_hearing import with_unheard

SAMPLES = Path(__file__).parent.parent.parent / "samples"

NUM_SAMPLES, NUM_FRAMES, NUM_SPEAKERS = 160_000, 589, 3


@pytest.fixture(scope="module")
def speech_N():
    samples_N = torch.from_numpy(read_audio(SAMPLES / "ten-minutes.opus")[240_000:480_000])
    return at_16_khz(samples_N, 24_000)[:NUM_SAMPLES]


def active_TK(share_heard: float = 0.0) -> np.ndarray:
    """The first speaker of three is heard in the first part of the window."""
    flags_TK = np.zeros((NUM_FRAMES, NUM_SPEAKERS), bool)
    flags_TK[: round(share_heard * NUM_FRAMES), 0] = True
    return flags_TK


def unheard_share(sound_N: torch.Tensor, heard: float = 0.0) -> float:
    found_WTK = with_unheard(sound_N[None], active_TK(heard)[None])
    assert found_WTK.shape == (1, NUM_FRAMES, NUM_SPEAKERS + 1)
    assert (found_WTK[0, :, :NUM_SPEAKERS] == active_TK(heard)).all()
    return float(found_WTK[0, :, NUM_SPEAKERS].mean())


def test_speech_in_which_no_speaker_was_found_gets_one(speech_N):
    assert unheard_share(speech_N) > 0.5


def test_who_was_found_already_is_not_found_again(speech_N):
    assert unheard_share(speech_N, heard=1.0) == 0.0
    assert 0.0 < unheard_share(speech_N, heard=0.5) < unheard_share(speech_N)


def test_music_and_noise_as_loud_as_speech_are_nobody(speech_N):
    level = speech_N.square().mean().sqrt()
    noise_N = torch.randn(NUM_SAMPLES, generator=torch.Generator().manual_seed(1))
    times_s = torch.arange(NUM_SAMPLES) / 16_000
    chord_N = sum((2 * torch.pi * hz * times_s).sin() for hz in (262, 330, 392))
    for sound_N in (noise_N, chord_N):
        assert unheard_share(sound_N * level / sound_N.square().mean().sqrt()) == 0.0


def test_what_is_much_quieter_than_the_rest_is_not_asked_about(speech_N, monkeypatch):
    monkeypatch.setattr(
        "nightscribe.speakers.second_hearing.speech_probabilities", lambda sound_WN: 1 / 0
    )
    sound_N = speech_N.clone()
    sound_N[NUM_SAMPLES // 2 :] *= 0.01
    assert unheard_share(sound_N, heard=0.55) == 0.0
