"""The small model that is shipped, loaded and run through slots."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nightscribe.audio.decode import DecodeConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.jobs.file import samples_of
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.prompting import Prompt, SpeechProcessor
from nightscribe.model.sampling import Sampling
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.transcription.transcriber import Clip, Transcriber

TINY = ModelConfig(name="tiny", checkpoint="models/tiny")


@pytest.fixture(scope="module")
def clips():
    draws = np.random.default_rng(0)
    return [
        Clip(f"clip-{i}", (draws.standard_normal(24_000 * s) * 3000).astype(np.int16))
        for i, s in enumerate((1, 3, 2))
    ]


@pytest.fixture(scope="module")
def checkpoint():
    return open_model(TINY)


@pytest.fixture(scope="module")
def plain(checkpoint):
    tensors = checkpoint.mimi_tensors(), checkpoint.language_model_tensors()
    return SpeechToText.load(checkpoint.config, *tensors, "cpu", torch.float32)


@pytest.fixture
def transcriber():
    return Transcriber.load(TINY, EngineConfig(device="cpu", num_slots=2))


def test_a_loaded_transcriber_gives_what_the_plain_model_gives(clips, plain, transcriber):
    heard = {one.clip_id: one for one in transcriber.transcribe(clips)}
    for clip in clips:
        expected = plain.transcribe(clip.samples_N[None]).tokens_SF[0].tolist()
        assert heard[clip.clip_id].tokens_T[1:].tolist() == expected


def test_several_frames_a_pass_change_no_token(clips, transcriber):
    leaping = EngineConfig(device="cpu", num_slots=2, frames_per_pass=3)
    heard = {one.clip_id: one for one in Transcriber.load(TINY, leaping).transcribe(clips)}
    for plain in transcriber.transcribe(clips):
        assert heard[plain.clip_id].tokens_T.tolist() == plain.tokens_T.tolist()


def test_a_prompted_clip_and_a_sampled_one_are_transcribed_beside_others_as_alone(
    clips, checkpoint, plain, transcriber
):
    spoken_N, _ = samples_of("samples/alice.opus", None, DecodeConfig(), 24_000)
    text = json.loads(Path("samples/texts.json").read_text())["alice.opus"]
    prompt = Prompt(text=text, samples_N=spoken_N)
    told = replace(clips[1], prompt=prompt)
    drawn = replace(clips[2], temperature=0.8, seed=3)
    heard = {one.clip_id: one for one in transcriber.transcribe([clips[0], told, drawn])}
    interpreter = SpeechProcessor(config=checkpoint.config, tokenizer=checkpoint.tokenizer)
    sound_N = interpreter.input_samples(told.samples_N, prompt)
    script = interpreter.constraints(prompt)
    scripted = plain.transcribe(sound_N[None], [script])
    warm = plain.transcribe(drawn.samples_N[None], sampling=Sampling(temperature=0.8, seed=3))
    greedy = plain.transcribe(clips[0].samples_N[None])
    for clip, expected in ((clips[0], greedy), (told, scripted), (drawn, warm)):
        assert heard[clip.clip_id].tokens_T[1:].tolist() == expected.tokens_SF[0].tolist()
    said = [int(t) for t in heard["clip-1"].tokens_T if int(t) not in plain.padding_tokens]
    assert said[:3] == list(script.prompt_tokens[:3])


def test_a_temperature_below_zero_is_refused(clips):
    with pytest.raises(ValueError, match=r"'clip-0' has temperature -0\.5"):
        replace(clips[0], temperature=-0.5)
