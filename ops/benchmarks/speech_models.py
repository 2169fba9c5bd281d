"""Text-to-speech models with random weights, from a toy to the published 1.6B."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nightscribe.benchmarks.random_weights import PUBLISHED_MIMI, TOY_MIMI
from nightscribe.model.config import MimiConfig
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.native_tensors import NativeTensor, without_memory
from nightscribe.model.tts.backbone import Backbone
from nightscribe.model.tts.conditioning import Conditions
from nightscribe.model.tts.config import (
    DepthConfig,
    LookupCondition,
    SpeakerCondition,
    TextToSpeechConfig,
)
from nightscribe.model.tts.depth_transformer import DepthTransformer
from nightscribe.model.tts.script import Entry, FlatScript
from nightscribe.model.tts.text_to_speech import TextToSpeech

HEAD_DIM = 64
VOICE_VECTORS = 125  # of a published voice
# Width, layers, codebooks and width of the depth transformer.
SIZES = {
    "toy": (64, 2, 4, 64),
    "small": (512, 6, 16, 256),
    "medium": (1024, 8, 16, 512),
    "1.6b": (2048, 16, 32, 1024),
}


def config_of(size: str) -> TextToSpeechConfig:
    """The architecture of the 1.6B, at its widths or at a fraction of them."""
    dim, num_layers, num_codebooks, depth_dim = SIZES[size]
    head_dim = 128 if size == "1.6b" else HEAD_DIM
    guidance = tuple(f"{1 + step / 2}" for step in range(7))
    return TextToSpeechConfig(
        mimi=replace(TOY_MIMI if size == "toy" else PUBLISHED_MIMI, num_codebooks=num_codebooks),
        dim=dim,
        num_heads=dim // head_dim,
        num_layers=num_layers,
        ffn_dim=int(4.125 * dim) * 2 // 3,
        context=500,
        rope_max_period=10000.0,
        norm_eps=1e-8,
        num_codebooks=num_codebooks,
        audio_card=TOY_MIMI.codebook_size if size == "toy" else 2048,
        text_card=8000,
        text_card_out=8000,
        codebook_delays=(0, *[2] * (num_codebooks - 1)),
        has_second_stream=True,
        words_ahead=2,
        depth=DepthConfig(
            dim=depth_dim,
            num_heads=depth_dim // HEAD_DIM,
            num_layers=4,
            ffn_dim=2 * depth_dim,
            norm_eps=1e-8,
            weight_sets=tuple(min(index, 7 + index // 8) for index in range(num_codebooks)),
            low_rank=min(128, depth_dim // 2),
        ),
        lookups=(
            LookupCondition(name="cfg", num_rows=7, dim=16, values=guidance),
            LookupCondition(name="control", num_rows=1, dim=dim, values=("ok",)),
        ),
        speakers=SpeakerCondition(name="speaker_wavs", dim=512, position_scale=1.0),
        audio_delay_steps=16,
    )


def random_model(size: str, device: torch.device, dtype: torch.dtype) -> TextToSpeech:
    config = config_of(size)
    return TextToSpeech.load(config, random_tensors(model_places(config), device), device, dtype)


def model_places(config: TextToSpeechConfig) -> dict[str, NativeTensor]:
    with without_memory():
        parts = Backbone(config), DepthTransformer(config), Conditions(config)
    places: dict[str, NativeTensor] = {}
    for part in parts:
        places |= dict(part.native_tensors())
    return places


def random_decoder(size: str, device: torch.device) -> MimiDecoder:
    config = config_of(size).mimi
    return MimiDecoder.load(config, random_tensors(decoder_places(config), device), device)


def decoder_places(config: MimiConfig) -> dict[str, NativeTensor]:
    with without_memory():
        return MimiDecoder(config).native_tensors()


def random_tensors(
    places: dict[str, NativeTensor], device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    for name, place in places.items():
        noise = torch.randn(place.shape, device=device)
        is_scale = any(word in name for word in ("alpha", "usage", "norm"))
        yield name, 1 + 0.1 * noise if is_scale else 0.02 * noise


def voice_of(config: TextToSpeechConfig) -> Tensor:
    assert config.speakers is not None
    return torch.randn(config.speakers.dim, VOICE_VECTORS)


def flat_script(config: TextToSpeechConfig, num_words: int) -> FlatScript:
    """Words of two pieces each."""
    entries = [Entry("word", (10 + number % 100, 200), 2) for number in range(num_words)]
    return FlatScript.of(entries, config.words_ahead)
