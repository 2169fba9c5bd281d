"""Draws follow the model's probabilities, and are a text's own."""

import inspect

import pytest
import torch

from nightscribe.model.tts.sampling import TEXT_STREAM, SeededNoise, SpeechSampling, choose

NUM_DRAWS = 4000


def noise_of(seed: int, stream: int, step: int, slot: int = 0) -> torch.Tensor:
    seeds_S = torch.arange(100, 102)
    seeds_S[slot] = seed
    return SeededNoise(seeds_S)(stream, torch.full((2,), step), 8)[slot]


def test_noise_is_by_seed_codebook_and_step_and_not_by_slot():
    assert torch.equal(noise_of(5, 2, 7), noise_of(5, 2, 7, slot=1))
    others = [noise_of(6, 2, 7), noise_of(5, 3, 7), noise_of(5, TEXT_STREAM, 7), noise_of(5, 2, 8)]
    for other in others:
        assert not torch.equal(noise_of(5, 2, 7), other)


def test_noise_is_exponential():
    drawn = SeededNoise(torch.arange(NUM_DRAWS))(0, torch.zeros(NUM_DRAWS).long(), 4)
    assert drawn.mean().item() == pytest.approx(1, abs=0.05)
    assert (drawn > 1).float().mean().item() == pytest.approx(0.368, abs=0.02)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_draws_are_as_frequent_as_probable_among_the_likeliest(temperature):
    logits_V = torch.tensor([0.3, 2.0, 1.0, -0.5, 1.5])
    noise = SeededNoise(torch.arange(NUM_DRAWS))
    steps_S = torch.zeros(NUM_DRAWS).long()
    drawn_S = choose(logits_V.expand(NUM_DRAWS, -1), temperature, 3, noise, 0, steps_S)
    found_V = drawn_S.bincount(minlength=5) / NUM_DRAWS
    likeliest = torch.tensor([1, 4, 2])
    expected_V = torch.zeros(5)
    expected_V[likeliest] = (logits_V[likeliest] / temperature).softmax(-1)
    torch.testing.assert_close(found_V, expected_V, rtol=0, atol=0.03)


def test_as_many_candidates_are_drawn_from_as_in_the_reference():
    lm = pytest.importorskip("moshi.models.lm", reason="the reference is not installed")
    defaults = inspect.signature(lm.LMGen.__init__).parameters
    assert SpeechSampling().audio_top_k == defaults["top_k"].default
    assert SpeechSampling().text_top_k == defaults["top_k_text"].default
