"""Random weights of a small model, and the native files that hold them."""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import sentencepiece
from safetensors.torch import save_file
from torch import Tensor

from nightscribe.model.config import LanguageModelConfig, MimiConfig
from ops.benchmarks.moshi_peer import mimi_settings
from tests.model import reference

TEXT_CARD = 300  # room for the 256 bytes
SENTENCES = [
    "the night is long and the scribe writes on until the morning light",
    "one two three four five six seven eight nine ten",
    "she sells sea shells by the shore while he counts the waves",
]


@dataclass(frozen=True)
class Weights:
    """The native tensors of one model."""

    mimi_config: MimiConfig
    config: LanguageModelConfig
    language_model: dict[str, Tensor]
    mimi: dict[str, Tensor]  # the decoder too, as in published files


@cache
def random_weights(num_vad_heads: int = 0) -> Weights:
    mimi_config = reference.SMALL_MIMI
    config = replace(
        reference.SMALL_LANGUAGE_MODEL,
        text_card=TEXT_CARD,
        text_start_id=TEXT_CARD,
        num_text_rows=TEXT_CARD + 1,
        num_vad_heads=num_vad_heads,
    )
    model = reference.random_moshi_language_model(config, seed=1)
    mimi = reference.random_moshi_mimi(mimi_config, seed=2)
    return Weights(
        mimi_config,
        config,
        dict(reference.native(model.state_dict())),
        dict(reference.native(mimi.state_dict())),
    )


def native_settings(weights: Weights) -> dict:
    config = weights.config
    return {
        "card": config.audio_card,
        "n_q": config.num_codebooks,
        "dep_q": 0,
        "delays": [0] * (config.num_codebooks + 1),
        "dim": config.dim,
        "text_card": config.text_card,
        "existing_text_padding_id": 3,
        "num_heads": config.num_heads,
        "num_layers": config.num_layers,
        "hidden_scale": config.ffn_dim * 3 / 2 / config.dim,
        "causal": True,
        "layer_scale": None,
        "context": config.context,
        "max_period": config.rope_max_period,
        "gating": "silu",
        "norm": "rms_norm_f32",
        "positional_embedding": "rope",
        "depformer_dim": 1024,
        "conditioners": {},
        "cross_attention": False,
        "model_type": "stt",
        "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 1.0},
        "lm_gen_config": {"temp": 0.0},
        "mimi_name": "mimi.safetensors",
        "mimi_config_name": "mimi.json",
        "tokenizer_name": "tokenizer.model",
    }


def write_tokenizer(directory: Path, name: str = "tokenizer.model") -> Path:
    """A SentencePiece model with the published special ids and byte fallback."""
    path = directory / name
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES),
            model_writer=file,
            vocab_size=TEXT_CARD,
            byte_fallback=True,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            minloglevel=2,
        )
    return path


def write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")


def write_beside_language_model(directory: Path, weights: Weights, **changes: object) -> None:
    """All of a native checkpoint but the language model's weights; `changes` to its config."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", native_settings(weights) | changes)
    write_json(directory / "mimi.json", mimi_settings(weights.mimi_config))
    save_file(weights.mimi, directory / "mimi.safetensors")
    write_tokenizer(directory)


def write_native(directory: Path, weights: Weights, **changes: object) -> Path:
    write_beside_language_model(directory, weights, **changes)
    save_file(weights.language_model, directory / "model.safetensors")
    return directory
