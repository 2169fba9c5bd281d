"""The native family (moshi, candle, MLX): a file for the language model, one for Mimi.

The first may be quantized, and may have an adapter beside it.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nightscribe.model.checkpoints import native_config
from nightscribe.model.checkpoints.lora import Adapter
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.opened import Opened, speech_to_text_config
from nightscribe.model.checkpoints.places import Place, fetch
from nightscribe.model.checkpoints.quantized import take_dequantized
from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.checkpoints.shapes import language_model_shapes, mimi_shapes
from nightscribe.model.checkpoints.stored import Inventory, Read, Shape
from nightscribe.model.checkpoints.weights import open_weights
from nightscribe.model.config import LanguageModelConfig, MimiConfig

# What adapters are when their config does not say.
LORA_RANK, LORA_SCALING = 128, 2.0
# Names under which other versions of the reference, and MLX, write the same tensors.
_ALIASES = (
    (re.compile(r"^audio_embs\."), "emb."),
    (re.compile(r"^(transformer\.layers\.\d+\.norm[12])\.weight$"), r"\1.alpha"),
    (re.compile(r"^out_norm\.weight$"), "out_norm.alpha"),
    (re.compile(r"\.in_projs\.0\."), ".in_proj."),
    (re.compile(r"\.out_projs\.0\."), ".out_proj."),
    (re.compile(r"\.in_proj\.weight"), ".in_proj_weight"),
)
# What a codec holds for speaking, and a mark of its training.
_UNUSED = re.compile(
    r"(decoder|decoder_transformer|upsample)\.|.*(\.output_proj\.|\._initialized$)"
)


def open_native(place: Place, settings: Settings, model: ModelConfig) -> Opened:
    codec = _mimi_config(place, settings)
    file_name = model.weights or settings.text("moshi_name", "model.safetensors")
    tensors, files = open_weights(place, file_name)
    tensors = tensors.renamed(native_name)
    config = _with_extra_heads(native_config.language_model_config(settings), tensors)
    codec_tensors, codec_files = open_weights(place, settings.text("mimi_name"))
    tokenizer = fetch(place, settings.text("tokenizer_name"))
    adapter, adapter_files = _adapter(place, settings, model)
    return Opened(
        config=speech_to_text_config(settings.section("stt_config"), model, codec, config),
        language_model=_language_model(tensors, config, adapter),
        mimi=_read(codec_tensors.renamed(native_name), mimi_shapes(codec), _UNUSED),
        tokenizer=tokenizer,
        files=(*files, *codec_files, *adapter_files, tokenizer),
    )


def native_name(name: str) -> str:
    for alias, canonical in _ALIASES:
        name = alias.sub(canonical, name)
    return name


def _mimi_config(place: Place, settings: Settings) -> MimiConfig:
    if not settings.has("mimi_config_name"):
        return native_config.PUBLISHED_MIMI
    path = fetch(place, settings.text("mimi_config_name"))
    return native_config.mimi_config(Settings.read(path))


def _with_extra_heads(config: LanguageModelConfig, tensors: Inventory) -> LanguageModelConfig:
    """Heads in the file count, whatever the config says of them."""
    heads = [name for name in tensors.names() if re.fullmatch(r"extra_heads\.\d+\.weight", name)]
    if not heads:
        return config
    return replace(config, num_extra_heads=len(heads), extra_head_dim=tensors.shape(heads[0])[0])


def _language_model(
    tensors: Inventory, config: LanguageModelConfig, adapter: Adapter | None
) -> dict[str, Read]:
    shapes = language_model_shapes(config)
    reads = _read(tensors, shapes)
    return adapter.merged(reads, shapes) if adapter else reads


def _read(
    tensors: Inventory, shapes: Mapping[str, Shape], unused: re.Pattern[str] | None = None
) -> dict[str, Read]:
    reads = {name: take_dequantized(tensors, name, shape) for name, shape in shapes.items()}
    tensors.refuse_rest(unused)
    return reads


def _adapter(
    place: Place, settings: Settings, model: ModelConfig
) -> tuple[Adapter | None, tuple[Path, ...]]:
    if model.lora is None and not settings.has("lora_name"):
        return None, ()
    tensors, files = open_weights(place, model.lora or settings.text("lora_name"))
    adapter = Adapter(
        tensors.renamed(native_name),
        rank=settings.count("lora_rank", LORA_RANK),
        scaling=settings.positive("lora_scaling", LORA_SCALING),
    )
    return adapter, files
