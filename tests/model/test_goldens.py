"""The numbers of the reference, on machines without it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.mimi import Mimi
from nightscribe.model.speech_to_text import SpeechToText
from tests.goldens.inputs import LANGUAGE_MODEL, MIMI, NUM_FRAMES, samples, weight

GOLDEN = Path(__file__).parent.parent / "goldens" / "moshi.safetensors"


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def ours() -> SpeechToText:
    config = SpeechToTextConfig(
        mimi=MIMI, language_model=LANGUAGE_MODEL, delay_s=0.0, silence_prefix_s=0.0
    )
    mimi, language_model = (
        [(name, weight(name, place.shape)) for name, place in empty.native_tensors().items()]
        for empty in (Mimi(MIMI), LanguageModel(LANGUAGE_MODEL))
    )
    return SpeechToText.load(config, mimi, language_model, "cpu", torch.float32)


def test_latents_and_codes_are_those_of_the_reference(ours, golden):
    samples_BN = torch.from_numpy(samples()).float() / 32768
    with torch.no_grad():
        latents_BFD = ours.mimi(samples_BN)
    tolerance = 1e-5 * golden["latents_BFD"].abs().max()
    assert (latents_BFD - golden["latents_BFD"]).abs().max() < tolerance
    codes_BFK = next(ours.encode(samples()))
    assert torch.equal(codes_BFK.short(), golden["codes_BFK"][:, : codes_BFK.shape[1]])


def test_tokens_logits_and_extra_heads_are_those_of_the_reference(ours, golden):
    heard = ours.transcribe(samples())
    tokens_BF = golden["tokens_BT"][:, 1 : NUM_FRAMES + 1]
    assert torch.equal(heard.tokens_SF[:, :NUM_FRAMES].short(), tokens_BF)
    assert len(tokens_BF.unique()) > 10
    extra_BFHA = golden["extra_BTHA"][:, 1:]
    assert (heard.vad_SFHA[:, :NUM_FRAMES] - extra_BFHA).abs().max() < 1e-5
    likely_BF = golden["logits_BTV"].softmax(-1).amax(-1)[:, 1:]
    assert (heard.probabilities_SF[:, :NUM_FRAMES] - likely_BF).abs().max() < 1e-5
