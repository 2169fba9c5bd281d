"""Texts are spoken with the tokens and codes of the reference, alone and in batches."""

import pytest
import torch
from torch import Tensor

from nightscribe.model.tts.conditioning import ConditionError
from nightscribe.model.tts.sampling import SpeechSampling
from nightscribe.model.tts.text_to_speech import SpeechOptions
from tests.model.tts import peer as peers
from tests.model.tts.spoken import (
    KINDS,
    SCRIPTS,
    generated,
    ours_like,
    spoken,
    text_of,
    undelayed,
)

pytest.importorskip("moshi", reason="the reference is not installed")

WORDS = [
    "the",
    "night",
    "is",
    "long",
    "and",
    "he",
    "counts",
    "all",
    "the",
    "waves",
    "until",
    "morning",
]


@pytest.fixture(scope="module", params=KINDS)
def peer(request) -> peers.Peer:
    return peers.random_peer(getattr(peers, request.param), 3, KINDS[request.param])


def assert_same(peer, result, frames_SXF, model, texts, noise=None) -> None:
    num_frames = frames_SXF.shape[-1]
    tokens_SN, codes_NSK, outputs = spoken(
        model, texts, num_frames + peer.config.max_codebook_delay, noise
    )
    assert torch.equal(tokens_SN[:, :num_frames], frames_SXF[:, 0])
    frames_SFK = undelayed(codes_NSK, peer.config.codebook_delays)
    assert torch.equal(frames_SFK.mT, frames_SXF[:, 1:])
    assert outputs[-1].ends_S.tolist() == result.end_steps
    for slot, times in enumerate(result.all_consumption_times):
        assert [n for n, one in enumerate(outputs) if one.consumed_S[slot]] == times


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_tokens_codes_and_word_times_are_those_of_the_reference(peer, guidance):
    if guidance != 1.0 and peer.config.has_guidance_condition:
        with pytest.raises(ConditionError, match="as a condition"):
            ours_like(peer, SCRIPTS, guidance)
        return
    result, frames_SXF = generated(peer, SCRIPTS, guidance)
    assert_same(peer, result, frames_SXF, *ours_like(peer, SCRIPTS, guidance))
    # Otherwise the comparison would say little about the text machine.
    free = [token == 0 for log in result.logged_text_tokens for token, _ in log]
    assert 0.02 < sum(free) / len(free) < 0.9


def test_samples_are_those_of_the_reference_when_it_draws_the_same_noise(peer):
    torch.manual_seed(11)
    result, frames_SXF = generated(peer, SCRIPTS[:2], temp=0.7)
    torch.manual_seed(11)
    model, texts = ours_like(peer, SCRIPTS[:2], 1.0, SpeechSampling(temperature=0.7))
    assert_same(peer, result, frames_SXF, model, texts, global_noise)


def global_noise(stream: int, steps_S: Tensor, num_draws: int) -> Tensor:
    """As the reference draws it."""
    return torch.empty(len(steps_S), num_draws).exponential_(1)


def test_a_text_in_a_used_slot_is_spoken_as_in_a_new_one(peer):
    model, texts = ours_like(peer, SCRIPTS[:3])
    expected_SN, expected_NSK, _ = spoken(model, texts, 20)
    state = model.initial_state(2)
    model.begin(state, 0, texts[1])
    for _ in range(7):
        model.step(state)
    model.begin(state, 1, texts[0])
    model.begin(state, 0, texts[2])
    outputs = [model.step(state) for _ in range(20)]
    for slot, text in enumerate((2, 0)):
        assert torch.equal(torch.stack([o.tokens_S[slot] for o in outputs]), expected_SN[text])
        assert torch.equal(torch.stack([o.codes_SK[slot] for o in outputs]), expected_NSK[:, text])


@pytest.mark.parametrize(
    "lengths", [(1, 5, 16), pytest.param((300, 1, 60, 7), marks=pytest.mark.slow)]
)
def test_texts_of_any_length_are_those_of_the_reference_far_beyond_the_window(peer, lengths):
    scripts = [[" ".join(WORDS[n % len(WORDS)] for n in range(length))] for length in lengths]
    scripts[1] += ["and who are you", "me"] if peer.config.speakers else []
    result, frames_SXF = generated(peer, scripts)
    assert frames_SXF.shape[-1] > 3 * peer.config.context
    assert_same(peer, result, frames_SXF, *ours_like(peer, scripts))


def test_without_a_prompt_the_model_speaks_as_the_reference_does(peer):
    if peer.config.speakers:
        model = peer.ours(SpeechOptions())
        with pytest.raises(ConditionError, match="none was given"):
            model.begin(model.initial_state(1), 0, text_of(SCRIPTS[0], peer.config))
        return
    result, frames_SXF = generated(peer, SCRIPTS, has_prompts=False)
    assert_same(peer, result, frames_SXF, *ours_like(peer, SCRIPTS, has_prompts=False))


def test_a_bonus_of_padding_makes_speech_slower_as_in_the_reference(peer):
    scripts = SCRIPTS[:2]
    ends = {}
    for bonus in (0.0, 4.0):
        result, frames_SXF = generated(peer, scripts, padding_bonus=bonus)
        assert_same(peer, result, frames_SXF, *ours_like(peer, scripts, padding_bonus=bonus))
        ends[bonus] = result.end_steps
    if peer.config.has_second_stream:  # the other one begins no word before it must
        assert ends[4.0] > ends[0.0]


def test_guided_samples_are_those_of_the_reference_when_it_draws_the_same_noise(peer):
    if peer.config.has_guidance_condition:
        pytest.skip("its guidance is a condition")
    torch.manual_seed(12)
    result, frames_SXF = generated(peer, SCRIPTS[:2], 2.5, temp=0.7)
    torch.manual_seed(12)
    model, texts = ours_like(peer, SCRIPTS[:2], 2.5, SpeechSampling(temperature=0.7))
    assert_same(peer, result, frames_SXF, model, texts, global_noise)
