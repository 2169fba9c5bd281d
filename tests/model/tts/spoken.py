"""Small texts, what they are conditioned on, and how both implementations speak them."""

import torch
from torch import Tensor

from nightscribe.model.tts.sampling import SpeechSampling
from nightscribe.model.tts.script import FlatScript, ScriptOptions, script_entries
from nightscribe.model.tts.text_to_speech import SpeechOptions, Text, TextToSpeech
from tests.model.tts import peer as peers

SCRIPTS = [
    ["one"],
    ["hello there", "who are you", "a friend"],
    ['wait <break time="0.5s"/> for <break time="0.2s"/>it', "", "now"],
    ["un?? ??known pie??ces ?? here"],
]
KINDS = {"CROSS": -2.5, "PROMPT": 5.0, "GUIDED": 2.0}
GREEDY = SpeechSampling(temperature=0.0)


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


def generated(
    peer: peers.Peer, scripts, guidance=1.0, temp=0.0, has_prompts=True, padding_bonus=0.0
):
    """What the reference speaks: its result, and tokens and codes of all frames, SXF."""
    config = peer.config
    theirs = peer.theirs(cfg_coef=guidance, temp=temp, padding_bonus=padding_bonus)
    entries = [theirs.prepare_script(script, padding_between=1) for script in scripts]
    attributes, prompts = [], []
    for index in range(len(scripts)):
        voices, cfg = conditions_of(config, index)
        attributes.append(peers.attributes(config, voices, cfg))
        if has_prompts and (prompt := prompt_of(config, index)) is not None:
            zero = torch.full((1, len(prompt)), -1)
            prompts.append(torch.cat((zero, prompt.T)))
    result = theirs.generate(entries, attributes, prefixes=prompts or None)
    return result, torch.cat(result.frames, dim=-1)


def texts_of(config, scripts, has_prompts=True) -> list[Text]:
    """The same texts with the same conditions for our model."""
    texts = []
    for index, script in enumerate(scripts):
        voices, cfg = conditions_of(config, index)
        prompt = prompt_of(config, index) if has_prompts else None
        texts.append(text_of(script, config, voices, prompt, cfg))
    return texts


def ours_like(
    peer: peers.Peer, scripts, guidance=1.0, sampling=GREEDY, has_prompts=True, padding_bonus=0.0
) -> tuple:
    options = SpeechOptions(
        sampling=sampling,
        guidance=None if guidance == 1.0 else guidance,
        padding_bonus=padding_bonus,
    )
    return peer.ours(options), texts_of(peer.config, scripts, has_prompts)
