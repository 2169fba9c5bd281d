"""The small model that ships, loaded and heard through slots."""

import numpy as np
import pytest
import torch

from pipeline.engine.config import EngineConfig
from pipeline.model.checkpoints.model_config import ModelConfig
from pipeline.model.checkpoints.open import open_model
from pipeline.model.speech_to_text import SpeechToText
from pipeline.transcriber import Clip, Transcriber

TINY = ModelConfig(name="tiny", checkpoint="models/tiny")


@pytest.fixture(scope="module")
def clips():
    draws = np.random.default_rng(0)
    return [
        Clip(f"clip-{i}", (draws.standard_normal(24_000 * s) * 3000).astype(np.int16))
        for i, s in enumerate((1, 3, 2))
    ]


def test_a_loaded_transcriber_says_what_the_plain_model_says(clips):
    checkpoint = open_model(TINY)
    plain = SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        "cpu",
        torch.float32,
    )
    transcriber = Transcriber.load(TINY, EngineConfig(device="cpu", num_slots=2))
    heard = {one.clip_id: one for one in transcriber.transcribe(clips)}
    for clip in clips:
        expected = plain.hear(clip.samples_N[None]).tokens_SF[0].tolist()
        assert heard[clip.clip_id].tokens_T[1:].tolist() == expected
