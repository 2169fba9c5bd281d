"""Waveforms become the tokens that the reference's own inference program outputs."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nightscribe.model.sampling import NO_TOKEN, Sampling, TokenConstraints
from nightscribe.model.speech_to_text import SpeechToText
from tests.model.reference import SMALL_LANGUAGE_MODEL, SMALL_MIMI, native, random_pair

pytest.importorskip("moshi")

NUM_FRAMES = 90  # the rings of both transformers (20 and 24 positions) wrap
PREFIX_FRAMES, FLUSH_FRAMES = 10, 13


@pytest.fixture(scope="module")
def pair():
    return random_pair(silence_prefix_s=0.8)


@pytest.fixture(scope="module")
def ours(pair) -> SpeechToText:
    return pair.ours


def noise(num_rows: int, num_samples: int, seed: int = 0) -> np.ndarray:
    loudness = np.linspace(500, 9000, num_samples)
    drawn = np.random.default_rng(seed).standard_normal((num_rows, num_samples)) * loudness
    return drawn.clip(-32768, 32767).astype(np.int16)


def reference_tokens(pair, samples_SN: np.ndarray) -> torch.Tensor:
    """Output of the reference's `run_inference` at every step, its start step included."""
    from moshi.run_inference import InferenceState

    said = []
    state = InferenceState(
        SimpleNamespace(
            model_type="stt",
            stt_config={
                "audio_delay_seconds": pair.ours.config.delay_s,
                "audio_silence_prefix_seconds": pair.ours.config.silence_prefix_s,
            },
        ),
        deepcopy(pair.moshi_mimi),  # it streams for ever
        SimpleNamespace(id_to_piece=str),
        deepcopy(pair.moshi_language_model),
        batch_size=len(samples_SN),
        cfg_coef=1.0,
        device="cpu",
        use_sampling=False,
        on_text_hook=lambda tokens_S: said.append(tokens_S.clone()),
    )
    state.run(torch.from_numpy(samples_SN)[:, None].float() / 32768)
    return torch.stack(said, dim=1)


@pytest.mark.parametrize("num_samples", [NUM_FRAMES * 1920, NUM_FRAMES * 1920 - 700, 500])
def test_tokens_equal_the_reference_program(pair, num_samples):
    samples_SN = noise(3, num_samples)
    heard = pair.ours.transcribe(samples_SN)
    expected = reference_tokens(pair, samples_SN)[:, 1:]
    num_frames = heard.tokens_SF.shape[1]
    assert num_frames == PREFIX_FRAMES + -(-num_samples // 1920) + FLUSH_FRAMES
    assert torch.equal(heard.tokens_SF, expected[:, :num_frames])
    assert num_samples < 1000 or len(heard.tokens_SF.unique()) > 10


@pytest.mark.slow
def test_the_published_width_outputs_the_tokens_of_the_reference():
    wide = {"dim": 2048, "ffn_dim": 5632, "num_heads": 16, "num_layers": 2, "text_card": 400}
    language_model = replace(SMALL_LANGUAGE_MODEL, **wide, text_start_id=400, num_text_rows=401)
    pair = random_pair(language_model=language_model, seed=7)
    samples_SN = noise(2, 30 * 1920)
    heard = pair.ours.transcribe(samples_SN)
    expected = reference_tokens(pair, samples_SN)[:, 1:]
    assert torch.equal(heard.tokens_SF, expected[:, : heard.tokens_SF.shape[1]])
    assert len(heard.tokens_SF.unique()) > 10


def test_neighbours_never_change_a_stream(ours):
    crowd = noise(4, 40 * 1920)
    alone = ours.transcribe(crowd[2:3])
    among_others = ours.transcribe(crowd)
    assert torch.equal(among_others.tokens_SF[2:3], alone.tokens_SF)
    assert torch.allclose(among_others.probabilities_SF[2:3], alone.probabilities_SF, atol=1e-5)


def test_probabilities_are_those_of_the_output_tokens(ours):
    samples_SN = noise(1, 20 * 1920)
    heard = ours.transcribe(samples_SN)
    codes_SFK = torch.cat(list(ours.encode(samples_SN)), dim=1)
    config = ours.language_model.config
    codes_STK = torch.cat((torch.full_like(codes_SFK[:, :1], config.audio_card), codes_SFK), 1)
    fed = reference_inputs(ours, codes_STK, heard.tokens_SF)
    with torch.no_grad():
        prediction = ours.language_model(codes_STK, fed)
    probabilities = prediction.logits_STV.softmax(-1)[:, 1:]
    expected = probabilities.gather(-1, heard.tokens_SF[..., None])[..., 0]
    assert torch.allclose(heard.probabilities_SF, expected, atol=1e-5)
    assert torch.allclose(heard.vad_SFHA, prediction.vad_STHA[:, 1:], atol=1e-5)


def reference_inputs(ours, codes_STK, tokens_SF):
    """Text input of every step: the start id, the output of the start step, and so on."""
    config = ours.language_model.config
    start = torch.full((len(codes_STK), 1), config.text_start_id)
    with torch.no_grad():
        first = ours.language_model(codes_STK[:, :1], start).logits_STV.argmax(-1)
    return torch.cat((start, first, tokens_SF[:, :-1]), dim=1)


def test_prefix_and_flush_are_whole_frames_rounded_up(ours):
    of_the_2_6b = replace(ours.config, delay_s=2.5, silence_prefix_s=1.0)
    assert (of_the_2_6b.prefix_frames, of_the_2_6b.flush_frames) == (13, 38)
    assert of_the_2_6b.delay_steps == 31
    assert replace(of_the_2_6b, known_delay_steps=32).delay_steps == 32
    assert replace(of_the_2_6b, known_delay_steps=32).flush_frames == 39
    of_the_1b = replace(ours.config, delay_s=0.5, silence_prefix_s=0.0)
    assert (of_the_1b.prefix_frames, of_the_1b.flush_frames, of_the_1b.delay_steps) == (0, 13, 6)
    assert of_the_1b.num_frames(1) == 14
    assert of_the_1b.num_frames(1921) == 15


def test_forced_tokens_are_output_and_fed_back(ours):
    samples_SN = noise(2, 30 * 1920)
    forced = (7, 8, NO_TOKEN, 9, *[3] * 6)
    scripted = ours.transcribe(
        samples_SN, [TokenConstraints(forced_tokens=forced), TokenConstraints()]
    )
    free = ours.transcribe(samples_SN)
    # The first forced token is the output of the start step, which belongs to no frame.
    assert scripted.start_tokens_S.tolist() == [7, free.start_tokens_S[1]]
    assert scripted.tokens_SF[0, :9].tolist()[0] == 8
    assert scripted.tokens_SF[0, 2:9].tolist() == [9, *[3] * 6]
    assert not torch.equal(scripted.tokens_SF[0, 9:], free.tokens_SF[0, 9:])
    assert torch.equal(scripted.tokens_SF[1], free.tokens_SF[1])


def test_a_prompt_is_output_in_order_before_anything_else(ours):
    samples_SN = noise(2, 60 * 1920)
    prompt = (11, 12, 13, 12)
    silent = {0, 3}
    heard = ours.transcribe(
        samples_SN, [TokenConstraints(), TokenConstraints(prompt_tokens=prompt)]
    )
    said = [token for token in heard.tokens_SF[1].tolist() if token not in silent]
    start_said = next(n for n in (0, 1) if said[: len(prompt) - n] == list(prompt[n:]))
    assert start_said in (0, 1)
    assert torch.equal(heard.tokens_SF[0], ours.transcribe(samples_SN[:1]).tokens_SF[0])


def test_drawn_tokens_depend_on_seed_and_position_alone(ours):
    samples_SN = noise(3, 30 * 1920)
    warm = Sampling(temperature=0.8, seed=1)
    drawn = ours.transcribe(samples_SN, sampling=warm).tokens_SF
    assert torch.equal(ours.transcribe(samples_SN[1:2], sampling=warm).tokens_SF, drawn[1:2])
    assert not torch.equal(ours.transcribe(samples_SN).tokens_SF, drawn)
    other = Sampling(temperature=0.8, seed=2)
    assert not torch.equal(ours.transcribe(samples_SN, sampling=other).tokens_SF, drawn)


def test_the_codec_makes_only_the_codes_that_are_used(pair):
    config = pair.ours.config
    few = replace(config, language_model=replace(config.language_model, num_codebooks=3))
    mimi = native(pair.moshi_mimi.state_dict())
    language_model = native(pair.moshi_language_model.state_dict())
    ours = SpeechToText.load(few, mimi, language_model, "cpu", torch.float32)
    codes_SFK = next(ours.encode(noise(1, 20 * 1920)))
    assert codes_SFK.shape[-1] == 3
    assert torch.equal(codes_SFK, next(pair.ours.encode(noise(1, 20 * 1920)))[..., :3])


def test_codecs_and_language_models_that_do_not_fit_are_refused(pair):
    config = replace(SMALL_MIMI, num_codebooks=3)
    other = random_pair(config, replace(SMALL_LANGUAGE_MODEL, num_codebooks=3)).ours
    with pytest.raises(ValueError, match="makes 3 codes a frame, the language model takes 5"):
        SpeechToText(pair.ours.config, other.mimi, pair.ours.language_model)
