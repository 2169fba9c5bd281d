"""What the reference says aloud, on machines without it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.tts.backbone import Backbone
from nightscribe.model.tts.conditioning import Conditions
from nightscribe.model.tts.depth_transformer import DepthTransformer
from nightscribe.model.tts.text_to_speech import SpeechOptions, TextToSpeech
from tests.goldens.inputs import weight
from tests.goldens.speech_inputs import CONFIGS, GUIDANCE, MIMI, heard_frames, speech_weight
from tests.model.tts.spoken import GREEDY, SCRIPTS, spoken, texts_of, undelayed

GOLDEN = Path(__file__).parent.parent.parent / "goldens" / "moshi_speech.safetensors"


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


def model_of(kind: str) -> TextToSpeech:
    config, guidance = CONFIGS[kind], GUIDANCE[kind]
    places = {}
    for part in (Backbone(config), DepthTransformer(config), Conditions(config)):
        places |= dict(part.native_tensors())
    weights = [(name, speech_weight(kind, name, place.shape)) for name, place in places.items()]
    options = SpeechOptions(sampling=GREEDY, guidance=None if guidance == 1.0 else guidance)
    return TextToSpeech.load(config, weights, "cpu", torch.float32, options)


@pytest.mark.parametrize("kind", CONFIGS)
def test_tokens_and_codes_are_those_of_the_reference(golden, kind):
    config, frames_SXF = CONFIGS[kind], golden[f"{kind}.frames_SXF"]
    num_frames = frames_SXF.shape[-1]
    num_steps = num_frames + config.max_codebook_delay
    tokens_SN, codes_NSK, outputs = spoken(model_of(kind), texts_of(config, SCRIPTS), num_steps)
    assert torch.equal(tokens_SN[:, :num_frames].short(), frames_SXF[:, 0])
    frames_SFK = undelayed(codes_NSK, config.codebook_delays)
    assert torch.equal(frames_SFK.mT.short(), frames_SXF[:, 1:])
    assert outputs[-1].ends_S.tolist() == golden[f"{kind}.ends_S"].tolist()
    assert len(frames_SXF[:, 1:].unique()) > 50


def test_samples_are_those_of_the_reference(golden):
    places = MimiDecoder(MIMI).native_tensors()
    weights = [(name, weight(name, place.shape)) for name, place in places.items()]
    decoder = MimiDecoder.load(MIMI, weights, "cpu")
    codes_SFK = heard_frames(golden["cross.frames_SXF"]).mT
    samples_SN = decoder.decode(codes_SFK, decoder.initial_state(len(codes_SFK)))
    expected_SN = golden["cross.sound_SN"]
    assert expected_SN.std() > 1e-3
    torch.testing.assert_close(samples_SN, expected_SN, rtol=0, atol=1e-5 * expected_SN.abs().max())
