"""Texts are spoken with the tokens and codes of the reference, alone and in batches."""

import pytest
import torch
from torch import Tensor

from nightscribe.model.tts.conditioning import ConditionError
from nightscribe.model.tts.sampling import SpeechSampling
from nightscribe.model.tts.script import FlatScript, ScriptOptions, script_entries
from nightscribe.model.tts.text_to_speech import SpeechOptions, Text, TextToSpeech
from tests.model.tts import peer as peers

pytest.importorskip("moshi", reason="the reference is not installed")

SCRIPTS = [
    ["one"],
    ["hello there", "who are you", "a friend"],
    ['wait <break time="0.5s"/> for <break time="0.2s"/>it', "", "now"],
    ["un?? ??known pie??ces ?? here"],
]
KINDS = {"CROSS": -2.5, "PROMPT": 5.0, "GUIDED": 2.0}
GREEDY = SpeechSampling(temperature=0.0)


@pytest.fixture(scope="module", params=KINDS)
def peer(request) -> peers.Peer:
    return peers.random_peer(getattr(peers, request.param), 3, KINDS[request.param])


def entries_of(script: list[str], config) -> list:
    options = ScriptOptions(
        frame_rate_hz=peers.FRAME_RATE_HZ, has_speakers=config.speakers is not None
    )
    return script_entries(script, peers.encode, options)


def text_of(script: list[str], config, voices=(), prompt=None, cfg=None) -> Text:
    return Text(
        script=FlatScript.of(entries_of(script, config), config.words_ahead),
        voices=voices,
        audio_prompt_PK=prompt,
        values={"control": "ok", "cfg": cfg},
    )


def spoken(model: TextToSpeech, texts: list[Text], num_steps: int, noise=None):
    """Tokens SN, codes NSK and consumed NS of a batch that begins at once."""
    state = model.initial_state(len(texts))
    for slot, text in enumerate(texts):
        model.begin(state, slot, text)
    outputs = [model.step(state, noise) for _ in range(num_steps)]
    tokens_SN = torch.stack([output.tokens_S for output in outputs], dim=-1)
    codes_NSK = torch.stack([output.codes_SK for output in outputs])
    return tokens_SN, codes_NSK, outputs


def undelayed(codes_NSK: Tensor, delays) -> Tensor:
    """Frames SFK of all steps."""
    num_frames = len(codes_NSK) - max(delays)
    columns = [codes_NSK[d : d + num_frames, :, k] for k, d in enumerate(delays)]
    return torch.stack(columns, dim=-1).transpose(0, 1)


def conditions_of(config, index: int):
    voices = [peers.random_voice(index), peers.random_voice(index + 1)][: 1 + index % 2]
    cfg = [None, "1.0", "2.0"][index % 3] if config.lookups else None
    return (voices if config.speakers else []), cfg


def prompt_of(config, index: int) -> Tensor | None:
    if config.speakers:
        return None
    generator = torch.Generator().manual_seed(index)
    return torch.randint(
        0, config.audio_card, (3 + 4 * index, config.num_codebooks), generator=generator
    )


def generated(peer: peers.Peer, scripts, guidance=1.0, temp=0.0):
    """What the reference speaks: its result, and tokens and codes of all frames, SXF."""
    config, theirs = peer.config, peer.theirs(cfg_coef=guidance, temp=temp)
    entries = [theirs.prepare_script(script, padding_between=1) for script in scripts]
    attributes, prompts = [], []
    for index in range(len(scripts)):
        voices, cfg = conditions_of(config, index)
        attributes.append(peers.attributes(config, voices, cfg))
        if (prompt := prompt_of(config, index)) is not None:
            zero = torch.full((1, len(prompt)), -1)
            prompts.append(torch.cat((zero, prompt.T)))
    result = theirs.generate(entries, attributes, prefixes=prompts or None)
    return result, torch.cat(result.frames, dim=-1)


def ours_like(peer: peers.Peer, scripts, guidance=1.0, sampling=GREEDY) -> tuple:
    config = peer.config
    options = SpeechOptions(sampling=sampling, guidance=None if guidance == 1.0 else guidance)
    texts = []
    for index, script in enumerate(scripts):
        voices, cfg = conditions_of(config, index)
        texts.append(text_of(script, config, voices, prompt_of(config, index), cfg))
    return peer.ours(options), texts


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
