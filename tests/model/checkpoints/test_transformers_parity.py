"""A checkpoint in the transformers layout outputs what transformers itself does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.speech_to_text import SpeechToText
from tests.model.checkpoints.layouts import write_transformers
from tests.model.checkpoints.weights import random_weights

NUM_FRAMES = 40  # past the language model's context of 24


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    weights = random_weights()
    # Within Mimi's context: transformers handles longer input as the codec's offline form does.
    codec = replace(weights.mimi_config, context=250)
    return write_transformers(tmp_path_factory.mktemp("trfs"), replace(weights, mimi_config=codec))


@pytest.fixture(scope="module")
def theirs(directory):
    from transformers import KyutaiSpeechToTextForConditionalGeneration

    model, loading = KyutaiSpeechToTextForConditionalGeneration.from_pretrained(
        directory, output_loading_info=True, dtype=torch.float32
    )
    assert not any(loading["missing_keys"])
    assert not any(loading["unexpected_keys"])
    return model.eval()


def test_tokens_equal_those_of_transformers_generate(directory, theirs):
    model = ModelConfig(checkpoint=str(directory), silence_prefix_s=0.0)
    checkpoint = open_model(model)
    ours = SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        "cpu",
        torch.float32,
    )
    noise = np.random.default_rng(3).normal(size=NUM_FRAMES * 1920)
    samples_1N = (noise * 3000).astype(np.int16)[None]
    ours_F = ours.transcribe(samples_1N).tokens_SF[0]
    theirs_T = _generated(theirs, samples_1N, len(ours_F))
    # Theirs: the start token, the output of the start step, then a token for each frame.
    assert theirs_T[2:].tolist() == ours_F[: len(theirs_T) - 2].tolist()
    assert len(set(theirs_T[2:].tolist())) > 5


@torch.no_grad()
def _generated(model, samples_1N, num_frames):
    padded = np.zeros((1, 1, num_frames * 1920), np.float32)
    padded[0, 0, : samples_1N.shape[1]] = samples_1N[0] / 32768
    generated = model.generate(
        input_values=torch.from_numpy(padded),
        padding_mask=torch.ones(1, padded.shape[2], dtype=torch.int64),
        audio_window_size=None,
        do_sample=False,
    )
    return generated[0]
