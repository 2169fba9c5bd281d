"""Writes a model as a checkpoint of the native layout, which every command opens.

O outputs, I inputs of a matrix.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig

WEIGHTS_FILE, MIMI_FILE = "model.safetensors", "mimi.safetensors"
MIMI_CONFIG_FILE, TOKENIZER_FILE = "mimi_config.json", "tokenizer.model"

Tensors = Iterable[tuple[str, Tensor]]


def export_checkpoint(
    folder: Path,
    config: SpeechToTextConfig,
    language_model_tensors: Tensors,
    mimi_tensors: Tensors,
    tokenizer: bytes,
    dtype: torch.dtype = torch.bfloat16,
    mimi_dtype: torch.dtype = torch.float32,
) -> None:
    """Write all files of a checkpoint into a folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_tensors(folder / WEIGHTS_FILE, language_model_tensors, dtype)
    _write_tensors(folder / MIMI_FILE, mimi_tensors, mimi_dtype)
    (folder / TOKENIZER_FILE).write_bytes(tokenizer)
    _write_json(folder / MIMI_CONFIG_FILE, mimi_json(config.mimi))
    _write_json(folder / "config.json", config_json(config))


def config_json(config: SpeechToTextConfig) -> dict[str, Any]:
    """`config.json` of the native layout."""
    model = config.language_model
    if (model.text_start_id, model.num_text_rows) != (model.text_card, model.text_card + 1):
        raise ValueError("the native layout keeps the start row after all text tokens, and last")
    return {
        "model_type": "stt",
        "card": model.audio_card,
        "n_q": model.num_codebooks,
        "dep_q": 0,
        "delays": [0] * (model.num_codebooks + 1),
        "dim": model.dim,
        "text_card": model.text_card,
        "existing_text_padding_id": model.padding_id,
        "existing_text_end_padding_id": model.end_of_padding_id,
        "num_heads": model.num_heads,
        "num_layers": model.num_layers,
        "hidden_scale": _hidden_scale(model),
        "causal": True,
        "layer_scale": None,
        "context": model.context,
        "max_period": model.rope_max_period,
        "gating": "silu",
        "norm": "rms_norm_f32",
        "positional_embedding": "rope",
        "cross_attention": False,
        "extra_heads_num_heads": model.num_vad_heads,
        "extra_heads_dim": model.vad_head_dim,
        "stt_config": _stt_config(config),
        "moshi_name": WEIGHTS_FILE,
        "mimi_name": MIMI_FILE,
        "mimi_config_name": MIMI_CONFIG_FILE,
        "tokenizer_name": TOKENIZER_FILE,
    }


def mimi_json(mimi: MimiConfig) -> dict[str, Any]:
    """The file that `mimi_config_name` names."""
    return {
        "sample_rate": mimi.sample_rate_hz,
        "frame_rate": mimi.frame_rate_hz,
        "channels": 1,
        "seanet": _seanet_json(mimi),
        "quantizer": {
            "dimension": mimi.codebook_dim,
            "n_q": mimi.num_codebooks,
            "bins": mimi.codebook_size,
            "input_dimension": mimi.dim,
            "output_dimension": mimi.dim,
        },
        "transformer": _mimi_transformer_json(mimi),
    }


def _seanet_json(mimi: MimiConfig) -> dict[str, Any]:
    return {
        "dimension": mimi.seanet_dim,
        "channels": 1,
        "causal": True,
        "n_filters": mimi.num_filters,
        "n_residual_layers": mimi.num_residual_layers,
        "activation": "ELU",
        "compress": mimi.compress,
        "dilation_base": mimi.dilation_base,
        "kernel_size": mimi.kernel_size,
        "residual_kernel_size": mimi.residual_kernel_size,
        "last_kernel_size": mimi.last_kernel_size,
        "norm": "none",
        "pad_mode": "constant",
        "ratios": list(mimi.encoder_ratios[::-1]),
        "true_skip": True,
    }


def _mimi_transformer_json(mimi: MimiConfig) -> dict[str, Any]:
    return {
        "d_model": mimi.dim,
        "num_heads": mimi.num_heads,
        "num_layers": mimi.num_layers,
        "causal": True,
        "layer_scale": 0.01,
        "context": mimi.context,
        "max_period": mimi.rope_max_period,
        "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "dim_feedforward": mimi.ffn_dim,
        "input_dimension": mimi.dim,
        "output_dimensions": [mimi.dim],
    }


def _stt_config(config: SpeechToTextConfig) -> dict[str, float]:
    return {
        "audio_delay_seconds": config.delay_s,
        "audio_silence_prefix_seconds": config.silence_prefix_s,
    }


def _hidden_scale(model: LanguageModelConfig) -> float:
    """The layout's size of the feed-forward: readers take two thirds of `scale * dim`."""
    outer = -(-3 * model.ffn_dim // 2)
    scale = outer / model.dim
    if 2 * int(scale * model.dim) // 3 != model.ffn_dim or outer == 4 * model.dim:
        raise ValueError(
            f"the native layout cannot say a feed-forward of {model.ffn_dim} at width {model.dim}"
        )
    return scale


def _write_tensors(path: Path, tensors: Tensors, dtype: torch.dtype) -> None:
    save_file({name: _stored(tensor, dtype) for name, tensor in tensors}, path)
    path.chmod(0o644)  # safetensors writes for the owner's eyes only


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Integers stay what they are."""
    tensor = tensor.detach().cpu()
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


INT8_MAX = 127.0
_MATRICES = re.compile(r"transformer\.layers\.\d+\..*weight|text_linear\.weight")


def int8_rows(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The matrices of a language model in 127ths of each row's largest magnitude, the rest as is.

    The magnitudes follow under the name that checkpoints of bitsandbytes give them.
    """
    for name, tensor in tensors:
        if not _MATRICES.fullmatch(name):
            yield name, tensor
            continue
        # What is stored is what the integers must be multiples of, so it is rounded first.
        largest_O = tensor.detach().float().abs().amax(dim=1).bfloat16().clamp_min(1e-30)
        scales_O1 = largest_O.float()[:, None] / INT8_MAX
        rounded_OI = (tensor.detach().float() / scales_O1).round()
        yield name, rounded_OI.clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
        yield f"{name}_scb", largest_O
