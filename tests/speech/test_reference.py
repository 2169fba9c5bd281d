"""From a checkpoint on disk and a text to samples, as the reference speaks them."""

import pytest
import torch
from safetensors.torch import save_file

from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
from nightscribe.speech.config import SpeechConfig
from nightscribe.speech.requests import Speech, SpeechRequest
from nightscribe.speech.synthesizer import Synthesizer
from nightscribe.speech.voices import Voices
from tests.model import reference
from tests.model.tts import peer as peers
from tests.speech.checkpoints import CROSS, write_speech_checkpoint, write_voice

pytest.importorskip("moshi", reason="the reference is not installed")

TEXTS = [("one",), ("he counts the waves", "who", "it is"), ("so it is",)]
VOICES = {"ann": 1, "bob": 2}
GUIDANCE = "1.5"


@pytest.fixture(scope="module")
def theirs():
    """Their codec and their model."""
    peer = peers.random_peer(CROSS, 3, -2.5)
    return reference.random_moshi_mimi(CROSS.mimi, seed=5), peer


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    mimi, peer = theirs
    folder = write_speech_checkpoint(tmp_path_factory.mktemp("speech"))
    save_file(_whole(peers.native(peer.lm.state_dict(), CROSS)), folder / "tts.safetensors")
    save_file(_whole(reference.native(mimi.state_dict())), folder / "mimi.safetensors")
    for name, seed in VOICES.items():
        write_voice(folder, name, seed)
    return folder


def _whole(tensors):
    return {name: tensor.contiguous().clone() for name, tensor in tensors}


@torch.no_grad()
def spoken_by_moshi(theirs, folder) -> list[torch.Tensor]:
    """The samples of every text: those of its frames that the reference makes."""
    mimi, peer = theirs
    tokenizer = open_speech_checkpoint(str(folder)).tokenizer
    model = peer.theirs()
    model.tokenizer = tokenizer
    entries = [model.prepare_script(list(turns), padding_between=1) for turns in TEXTS]
    voices = [peers.random_voice(seed) for seed in VOICES.values()]
    attributes = [
        peers.attributes(CROSS, voices[: 1 + (len(turns) > 1)], GUIDANCE) for turns in TEXTS
    ]
    result = model.generate(entries, attributes)
    codes_SKF = torch.cat(result.frames, dim=-1)[:, 1:, CROSS.audio_delay_steps :]
    with mimi.streaming(len(TEXTS)):
        frames = [mimi.decode(codes_SK1) for codes_SK1 in codes_SKF.split(1, dim=-1)]
    samples_SN = torch.cat(frames, dim=-1)[:, 0].clamp(-1, 1)
    ends = [1920 * (end + 4) for end in result.end_steps]
    return [samples_N[:end] for samples_N, end in zip(samples_SN, ends, strict=True)]


def test_samples_are_those_of_the_reference_for_texts_of_all_lengths(theirs, folder):
    checkpoint = open_speech_checkpoint(str(folder))
    voices = Voices(checkpoint, str(folder), lambda path: pytest.fail(f"{path} is no recording"))
    config = SpeechConfig(device="cpu", num_slots=2, temperature=0.0, dtype="float32")
    synthesizer = Synthesizer.load(checkpoint, voices, config, float(GUIDANCE))
    requests = [
        SpeechRequest(request_id=f"{number}", turns=turns, voices=("ann", "bob")[: len(turns)])
        for number, turns in enumerate(TEXTS)
    ]
    found = {one.request.request_id: one for one in synthesizer.speak(requests)}
    for number, expected_N in enumerate(spoken_by_moshi(theirs, folder)):
        speech = found[f"{number}"]
        assert isinstance(speech, Speech)
        # The reference stops before the last two frames of the longest text.
        assert len(speech.samples_N) - len(expected_N) in (0, 2 * 1920)
        heard_N = torch.from_numpy(speech.samples_N[: len(expected_N)])
        assert expected_N.std() > 1e-3
        torch.testing.assert_close(heard_N, expected_N, rtol=0, atol=1e-5)
