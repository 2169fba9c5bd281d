"""Small text-to-speech checkpoints on disk, with random weights."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nightscribe.model.mimi import Mimi
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.native_tensors import NativeTensor
from nightscribe.model.tts.backbone import Backbone
from nightscribe.model.tts.conditioning import Conditions
from nightscribe.model.tts.config import TextToSpeechConfig
from nightscribe.model.tts.depth_transformer import DepthTransformer
from ops.benchmarks.moshi_peer import mimi_settings
from tests.model.checkpoints.weights import TEXT_CARD, write_json, write_tokenizer
from tests.model.reference import SMALL_MIMI
from tests.model.tts import peer

CROSS = replace(peer.CROSS, text_card=TEXT_CARD, text_card_out=TEXT_CARD)
PROMPT = replace(peer.PROMPT, text_card=TEXT_CARD)
SIGNATURE, EPOCH = "ab12", 7
VOICE_SUFFIX = f".{SIGNATURE}@{EPOCH}.safetensors"


def settings_of(config: TextToSpeechConfig, audio_delay_s: float = 0.4) -> dict:
    return peer.reference_settings(config) | {
        "model_type": "tts",
        "tts_config": {"audio_delay": audio_delay_s, "second_stream_ahead": config.words_ahead},
        "model_id": {"sig": SIGNATURE, "epoch": EPOCH},
        "moshi_name": "tts.safetensors",
        "mimi_name": "mimi.safetensors",
        "mimi_config_name": "mimi.json",
        "tokenizer_name": "tokenizer.model",
    }


@cache
def model_tensors(config: TextToSpeechConfig) -> dict[str, Tensor]:
    parts = Backbone(config), DepthTransformer(config), Conditions(config)
    places: dict[str, NativeTensor] = {}
    for part in parts:
        places |= dict(part.native_tensors())
    return random_tensors(places, seed=1)


@cache
def mimi_tensors() -> dict[str, Tensor]:
    return random_tensors(MimiDecoder(SMALL_MIMI).native_tensors(), 2) | random_tensors(
        Mimi(SMALL_MIMI).native_tensors(), 3
    )


def random_tensors(places: dict[str, NativeTensor], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, place in places.items():
        noise = torch.randn(place.shape, generator=generator)
        is_scale = "alpha" in name or "usage" in name or "norm" in name
        tensors[name] = 1 + 0.1 * noise if is_scale else 0.2 * noise
    return tensors


def write_speech_checkpoint(folder: Path, config: TextToSpeechConfig = CROSS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", settings_of(config))
    write_json(folder / "mimi.json", mimi_settings(SMALL_MIMI))
    save_file(model_tensors(config), folder / "tts.safetensors")
    save_file(mimi_tensors(), folder / "mimi.safetensors")
    write_tokenizer(folder)
    return folder


def write_voice(folder: Path, name: str, seed: int = 0) -> Path:
    path = folder / f"{name}{VOICE_SUFFIX}"
    save_file({"speaker_wavs": peer.random_voice(seed)[None].contiguous()}, path)
    return path


def write_voiced_checkpoint(folder: Path) -> Path:
    """A checkpoint with the voices ann and bob."""
    written = write_speech_checkpoint(folder)
    write_voice(written, "ann", 1)
    write_voice(written, "bob", 2)
    return written
