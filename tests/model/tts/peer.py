"""Random text-to-speech models of the reference implementation, and the same weights in ours.

Three kinds: `cross` attends to voices, `prompt` continues an audio prompt, and `guided` attends to
voices, has one text stream, and is guided by a second pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from nightscribe.model.tts.config import (
    DepthConfig,
    LookupCondition,
    SpeakerCondition,
    TextToSpeechConfig,
)
from nightscribe.model.tts.text_to_speech import SpeechOptions, TextToSpeech
from tests.model.reference import SMALL_MIMI

FRAME_RATE_HZ = 12.5
VOICE_DIM, VOICE_VECTORS = 12, 7
LOOKUPS = (
    LookupCondition(name="cfg", num_rows=3, dim=4, values=("1.0", "1.5", "2.0")),
    LookupCondition(name="control", num_rows=1, dim=8, values=("ok",)),
)
CROSS = TextToSpeechConfig(
    mimi=SMALL_MIMI,
    dim=48,
    num_heads=4,
    num_layers=3,
    ffn_dim=132,
    context=30,
    rope_max_period=10000.0,
    norm_eps=1e-8,
    num_codebooks=5,
    audio_card=64,
    text_card=40,
    text_card_out=40,
    codebook_delays=(0, 2, 2, 2, 2),
    has_second_stream=True,
    words_ahead=2,
    depth=DepthConfig(
        dim=32,
        num_heads=4,
        num_layers=2,
        ffn_dim=64,
        norm_eps=1e-8,
        weight_sets=(0, 1, 2, 2, 3),
        low_rank=8,
    ),
    lookups=LOOKUPS,
    speakers=SpeakerCondition(name="speaker_wavs", dim=VOICE_DIM, position_scale=1.0),
    audio_delay_steps=5,
)
PROMPT = replace(CROSS, text_card_out=5, lookups=(), speakers=None)
GUIDED = replace(
    CROSS,
    has_second_stream=False,
    words_ahead=0,
    lookups=(),
    depth=replace(CROSS.depth, weight_sets=(0, 1, 2, 3, 4), low_rank=None),
)


@dataclass(frozen=True)
class Peer:
    """One model twice: the reference's, which generates, and its native tensors."""

    config: TextToSpeechConfig
    lm: Any

    def theirs(self, **options: Any) -> Any:
        from moshi.models.tts import StateMachine, TokenIds, TTSModel

        config = self.config
        token_ids = TokenIds(config.text_card + 1)
        machine = StateMachine(token_ids, config.words_ahead, max_padding=8, initial_padding=2)
        options = {"temp": 0.0, "n_q": config.num_codebooks} | options
        return TTSModel(
            lm=self.lm,
            mimi=SimpleNamespace(frame_rate=FRAME_RATE_HZ),
            tokenizer=SimpleNamespace(encode=encode),
            voice_suffix="",
            voice_repo="",
            machine=machine,
            delay_steps=config.audio_delay_steps,
            **options,
        )

    def ours(self, options: SpeechOptions) -> TextToSpeech:
        tensors = native(self.lm.state_dict(), self.config)
        return TextToSpeech.load(self.config, tensors, "cpu", torch.float32, options)


def encode(word: str) -> list[int]:
    """A stand-in for a tokenizer: a piece for each pair of letters, sometimes unknown (0)."""
    pairs = [word[i : i + 2] for i in range(0, len(word), 2)]
    return [0 if pair == "??" else 4 + sum(map(ord, pair)) % 36 for pair in pairs]


def random_peer(config: TextToSpeechConfig, seed: int, new_word_scale: float) -> Peer:
    """`new_word_scale` is chosen so that the model begins some words before it is forced to."""
    # The reference compiles a norm, which takes longer than all of these tests.
    torch._dynamo.config.disable = True
    torch.manual_seed(seed)
    from moshi.models import loaders

    lm = loaders.get_moshi_lm(None, reference_settings(config), device="cpu", dtype=torch.float32)
    for name, parameter in lm.named_parameters():
        if "alpha" in name or "norm_cross" in name or "learnt_padding" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
        elif name == "text_emb.weight" or name == "depformer_text_emb.weight":
            parameter.data *= 3
        elif name.startswith("linears"):
            parameter.data *= 5
    lm.text_linear.weight.data[0] *= new_word_scale
    return Peer(config, lm.eval())


def reference_settings(config: TextToSpeechConfig) -> dict[str, Any]:
    """The keys of a native `config.json` that describe the language model."""
    depth = config.depth
    settings: dict[str, Any] = {
        "card": config.audio_card,
        "n_q": config.num_codebooks,
        "dep_q": config.num_codebooks,
        "delays": [0, *config.codebook_delays],
        "dim": config.dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_layers,
        "hidden_scale": 4.125,
        "context": config.context,
        "max_period": config.rope_max_period,
        "text_card": config.text_card,
        "norm": "rms_norm_f32",
        "gating": "silu",
        "positional_embedding": "rope",
        "causal": True,
        "layer_scale": None,
        "cross_attention": config.speakers is not None,
        "demux_second_stream": config.has_second_stream,
        "existing_text_padding_id": config.padding_id,
        "depformer_dim": depth.dim,
        "depformer_num_heads": depth.num_heads,
        "depformer_num_layers": depth.num_layers,
        "depformer_dim_feedforward": depth.ffn_dim * 3 // 2,
        "depformer_multi_linear": True,
        "depformer_weights_per_step": True,
        "depformer_pos_emb": "none",
        "conditioners": _conditioners(config),
        "fuser": {
            "cross_attention_pos_emb": config.speakers is not None,
            "cross_attention_pos_emb_scale": 1,
            "sum": [lookup.name for lookup in config.lookups],
            "prepend": [],
            "cross": [config.speakers.name] if config.speakers else [],
        },
    }
    if config.text_card_out != config.text_card:
        settings["text_card_out"] = config.text_card_out
    if depth.low_rank is not None:
        settings["depformer_low_rank_embeddings"] = depth.low_rank
    if depth.weight_sets != tuple(range(len(depth.weight_sets))):
        settings["depformer_weights_per_step_schedule"] = list(depth.weight_sets)
    return settings


def _conditioners(config: TextToSpeechConfig) -> dict[str, Any]:
    conditioners: dict[str, Any] = {
        lookup.name: {
            "type": "lut",
            "lut": {
                "n_bins": lookup.num_rows,
                "dim": lookup.dim,
                "tokenizer": "noop",
                "possible_values": list(lookup.values),
            },
        }
        for lookup in config.lookups
    }
    if config.speakers:
        conditioners[config.speakers.name] = {
            "type": "tensor",
            "tensor": {"dim": config.speakers.dim},
        }
    return conditioners


def native(state: dict[str, Tensor], config: TextToSpeechConfig) -> Iterator[tuple[str, Tensor]]:
    """The reference's parameters under the names of its files, sets of weights stacked."""
    stacked: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():
        stem, _, index = name.removesuffix(".weight").rpartition(".")
        if stem.endswith(
            (
                "self_attn.in_projs",
                "self_attn.out_projs",
                "cross_attention.in_projs",
                "cross_attention.out_projs",
            )
        ):
            suffix = "_weight" if stem.endswith("in_projs") else ".weight"
            stacked.setdefault(stem.removesuffix("s") + suffix, []).insert(int(index), tensor)
        else:
            yield name, tensor
    for name, tensors in stacked.items():
        yield name, torch.cat(tensors)


def random_voice(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOICE_DIM, VOICE_VECTORS, generator=generator)


def attributes(config: TextToSpeechConfig, voices: list[Tensor], cfg: str | None) -> Any:
    """The reference's form of conditions."""
    from moshi.conditioners import ConditionAttributes
    from moshi.conditioners.base import TensorCondition

    tensors = {}
    if config.speakers:
        num_vectors = voices[0].shape[1] if voices else VOICE_VECTORS
        voice_1CW = torch.zeros(1, 5, num_vectors, config.speakers.dim)
        mask_1C = torch.zeros(1, 5, num_vectors, dtype=torch.bool)
        for index, voice_WT in enumerate(voices):
            voice_1CW[0, index], mask_1C[0, index] = voice_WT.T, True
        tensors[config.speakers.name] = TensorCondition(voice_1CW.flatten(1, 2), mask_1C.flatten(1))
    text = {lookup.name: "ok" if lookup.name == "control" else cfg for lookup in config.lookups}
    return ConditionAttributes(text=text, tensor=tensors)
