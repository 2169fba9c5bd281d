"""A checkpoint in the transformers layout outputs what transformers does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.speech_to_text import SpeechToText
from tests.model.reference import SMALL_LANGUAGE_MODEL, SMALL_MIMI

pytest.importorskip("transformers")

from tests.model import reference_transformers

NUM_FRAMES = 90  # of a window of 24
# A row of the text table, the row after it, and an audio row, as in the published files.
START_ROWS = [SMALL_LANGUAGE_MODEL.text_card, 120]
LANGUAGE_MODEL = replace(SMALL_LANGUAGE_MODEL, num_vad_heads=0, vad_head_dim=0)


def load(directory) -> SpeechToText:
    checkpoint = open_checkpoint(str(directory))
    tensors = checkpoint.mimi_tensors(), checkpoint.language_model_tensors()
    return SpeechToText.load(checkpoint.config, *tensors, "cpu", torch.float32)


@pytest.mark.parametrize("start_row", START_ROWS)
def test_tokens_equal_transformers_past_the_window(tmp_path, start_row):
    theirs = reference_transformers.random_transformers_model(
        SMALL_MIMI, LANGUAGE_MODEL, seed=start_row, bos_token_id=start_row
    )
    reference_transformers.write(tmp_path, theirs, delay_s=0.0, silence_prefix_s=0.0)
    ours = load(tmp_path)
    samples_SN = noise(2, NUM_FRAMES * 1920)
    expected = reference_transformers.say(theirs, samples_SN)
    # Theirs stops one step early: the last frame is never used.
    said = ours.transcribe(samples_SN)
    first = torch.cat((start_tokens(ours, samples_SN), said.tokens_SF), dim=1)
    assert torch.equal(first[:, : expected.shape[1]], expected)
    assert expected.shape[1] == NUM_FRAMES
    assert len(expected.unique()) > 10


def noise(num_rows: int, num_samples: int) -> np.ndarray:
    drawn = np.random.default_rng(1).standard_normal((num_rows, num_samples)) * 4000
    return drawn.clip(-32768, 32767).astype(np.int16)


def start_tokens(ours: SpeechToText, samples_SN: np.ndarray) -> torch.Tensor:
    """The output of the start step, which belongs to no frame."""
    num_slots = len(samples_SN)
    fresh_S = torch.ones(num_slots, dtype=torch.bool)
    nothing_SK = torch.zeros(num_slots, ours.mimi.config.num_codebooks, dtype=torch.int64)
    return ours.step(nothing_SK, ours.initial_state(num_slots), fresh_S).tokens_S[:, None]
