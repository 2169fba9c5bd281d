"""The native (moshi, candle) layout: one file for the language model, one for Mimi."""

import re
from dataclasses import replace

from pipeline.model.checkpoints import native_config
from pipeline.model.checkpoints.model_config import ModelConfig
from pipeline.model.checkpoints.opened import Opened, speech_to_text_config
from pipeline.model.checkpoints.places import Place, fetch
from pipeline.model.checkpoints.settings import Settings
from pipeline.model.checkpoints.shapes import language_model_shapes, mimi_shapes
from pipeline.model.checkpoints.stored import Inventory, Read
from pipeline.model.checkpoints.weights import open_weights
from pipeline.model.config import LanguageModelConfig, MimiConfig

# Names under which other versions of the reference wrote the same tensors.
_ALIASES = (
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
    return Opened(
        layout="native",
        config=speech_to_text_config(settings.section("stt_config"), model, codec, config),
        language_model=_read_language_model(tensors, config),
        mimi=_read_mimi(codec_tensors.renamed(native_name), codec),
        tokenizer=tokenizer,
        files=(*files, *codec_files, tokenizer),
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


def _read_language_model(tensors: Inventory, config: LanguageModelConfig) -> dict[str, Read]:
    shapes = language_model_shapes(config)
    reads = {name: tensors.take(name, shape).read for name, shape in shapes.items()}
    tensors.refuse_rest()
    return reads


def _read_mimi(tensors: Inventory, config: MimiConfig) -> dict[str, Read]:
    shapes = mimi_shapes(config)
    reads = {name: tensors.take(name, shape).read for name, shape in shapes.items()}
    tensors.refuse_rest(_UNUSED)
    return reads
